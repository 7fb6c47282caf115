//! A test for each folder of the corpus, named like it: so that none is forgotten, and each can be run alone.
#![allow(clippy::print_stdout, reason = "cargo reads it")]

use std::path::Path;
use std::{env, fs};

fn main() {
    let mut tests = String::new();
    for kind in ["plugins/corpus/guests", "plugins/corpus/components"] {
        println!("cargo::rerun-if-changed={kind}");
        for entry in fs::read_dir(kind).expect("the corpus is there") {
            let entry = entry.expect("an entry");
            let folder = entry.file_name().into_string().expect("our names are text");
            if entry.path().is_dir() {
                let test = folder.replace('-', "_");
                tests += &format!(
                    "#[tokio::test]\nasync fn {test}() {{\n    comes_to_what_its_folder_says({folder:?}).await;\n}}\n"
                );
            }
        }
    }
    let file = Path::new(&env::var_os("OUT_DIR").expect("cargo says where")).join("corpus.rs");
    fs::write(file, tests).expect("it is written");
}
