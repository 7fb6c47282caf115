//! The contract's function types as text, to compare a component's with before a byte of it runs.
//!
//! Types of the component model are structural: what counts is written out, names of types are not.

use std::fmt::Write as _;

use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};

/// Every function that the contract lets a component export, a line each: `interface.function type`.
const CONTRACT: &str = include_str!("types.txt");

/// A function whose type is not the contract's, or that the contract does not have.
#[derive(Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The interface and the function.
    pub function: String,
    /// What is wrong.
    pub reason: &'static str,
}

/// Compares the exports of a component within the contract's package with the contract.
pub fn check(component: &Component, package: &str) -> Result<(), Mismatch> {
    for (function, rendered) in exported(component, package) {
        let expected = CONTRACT.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == function);
        let reason = match expected {
            Some((_, expected)) if expected == rendered => continue,
            Some(_) => "has another type than the contract's",
            None => "is not in the contract",
        };
        return Err(Mismatch { function, reason });
    }
    Ok(())
}

/// The functions that a component exports within the contract's package, with their types.
pub fn exported(component: &Component, package: &str) -> Vec<(String, String)> {
    let engine = component.engine();
    let mut functions = Vec::new();
    for (export, item) in component.component_type().exports(engine) {
        let Some(rest) = export.strip_prefix(package).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let interface = rest.split('@').next().unwrap_or(rest);
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        for (name, item) in instance.exports(engine) {
            if let ComponentItem::ComponentFunc(function) = item.ty {
                functions.push((format!("{interface}.{name}"), render(&function)));
            }
        }
    }
    functions.sort();
    functions
}

fn render(function: &ComponentFunc) -> String {
    let mut out = String::from("func(");
    for (name, ty) in function.params() {
        // Writing to a `String` cannot fail.
        let _ = write!(out, "{name}: ");
        push(&mut out, &ty);
        out.push(',');
    }
    out.push_str(")->");
    for ty in function.results() {
        push(&mut out, &ty);
    }
    out
}

fn push(out: &mut String, ty: &Type) {
    match ty {
        Type::List(list) => wrapped(out, "list", [Some(list.ty())]),
        Type::Option(option) => wrapped(out, "option", [Some(option.ty())]),
        Type::Result(result) => wrapped(out, "result", [result.ok(), result.err()]),
        Type::Tuple(tuple) => wrapped(out, "tuple", tuple.types().map(Some)),
        Type::Record(record) => {
            named(out, "record", record.fields().map(|field| (field.name.to_owned(), Some(field.ty))));
        }
        Type::Variant(variant) => named(out, "variant", variant.cases().map(|case| (case.name.to_owned(), case.ty))),
        Type::Enum(cases) => named(out, "enum", cases.names().map(|name| (name.to_owned(), None))),
        Type::Flags(flags) => named(out, "flags", flags.names().map(|name| (name.to_owned(), None))),
        // What is left has no parts, but for resources and streams, which the contract does not use.
        plain => {
            let _ = write!(out, "{plain:?}");
        }
    }
}

fn wrapped(out: &mut String, kind: &str, types: impl IntoIterator<Item = Option<Type>>) {
    out.push_str(kind);
    out.push('<');
    for ty in types {
        match ty {
            Some(ty) => push(out, &ty),
            None => out.push('_'),
        }
        out.push(',');
    }
    out.push('>');
}

fn named(out: &mut String, kind: &str, parts: impl Iterator<Item = (String, Option<Type>)>) {
    out.push_str(kind);
    out.push('{');
    for (name, ty) in parts {
        out.push_str(&name);
        if let Some(ty) = ty {
            out.push(':');
            push(out, &ty);
        }
        out.push(',');
    }
    out.push('}');
}
