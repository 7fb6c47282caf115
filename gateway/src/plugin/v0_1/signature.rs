//! The contract's function types as text, to compare a component's with before a byte of it runs.
//!
//! Types of the component model are structural: what counts is written out, names of types are not.

use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};

/// Every function that the contract lets a component export, a line each: `interface.function type`.
const CONTRACT: &str = include_str!("signature.txt");

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
    each(component, package, |interface, name, ty| {
        let is_it = |function: &str| function.split_once('.') == Some((interface, name));
        let known = CONTRACT.lines().filter_map(|line| line.split_once(' ')).find(|(function, _)| is_it(function));
        let reason = match known {
            Some((_, expected)) if Rendered::of(ty, expected.len()) == expected => return Ok(()),
            Some(_) => "has another type than the contract's",
            None => "is not in the contract",
        };
        Err(Mismatch { function: format!("{interface}.{name}"), reason })
    })
}

/// The functions that a component of ours exports within the contract's package, with their types.
pub fn exported(component: &Component, package: &str) -> Vec<(String, String)> {
    let mut functions = Vec::new();
    let found = each(component, package, |interface, name, ty| {
        functions.push((format!("{interface}.{name}"), Rendered::of(ty, usize::MAX)));
        Ok(())
    });
    found.expect("nothing is compared");
    functions.sort();
    functions
}

/// Shows interface, name and type of each function, up to the first that is wrong.
fn each(
    component: &Component,
    package: &str,
    mut show: impl FnMut(&str, &str, &ComponentFunc) -> Result<(), Mismatch>,
) -> Result<(), Mismatch> {
    let engine = component.engine();
    for (export, item) in component.component_type().exports(engine) {
        let Some(rest) = export.strip_prefix(package).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let interface = rest.split('@').next().unwrap_or(rest);
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        for (name, item) in instance.exports(engine) {
            if let ComponentItem::ComponentFunc(function) = item.ty {
                show(interface, name, &function)?;
            }
        }
    }
    Ok(())
}

/// A type as text, up to a length: a small component can have types of which each has the one before it twice.
struct Rendered {
    text: String,
    bytes_max: usize,
}

impl Rendered {
    /// The text, or a longer one than `bytes_max` where it would be longer.
    fn of(function: &ComponentFunc, bytes_max: usize) -> String {
        let mut out = Self { text: String::new(), bytes_max };
        out.add("func(");
        for (name, ty) in function.params() {
            out.add(name);
            out.add(": ");
            out.push(&ty);
            out.add(",");
        }
        out.add(")->");
        for ty in function.results() {
            out.push(&ty);
        }
        out.text
    }

    fn is_over(&self) -> bool {
        self.text.len() > self.bytes_max
    }

    fn add(&mut self, text: &str) {
        if !self.is_over() {
            self.text.push_str(text);
        }
    }

    fn push(&mut self, ty: &Type) {
        match ty {
            Type::List(list) => self.wrapped("list", [Some(list.ty())]),
            Type::Option(option) => self.wrapped("option", [Some(option.ty())]),
            Type::Result(result) => self.wrapped("result", [result.ok(), result.err()]),
            Type::Tuple(tuple) => self.wrapped("tuple", tuple.types().map(Some)),
            Type::Record(record) => self.named("record", record.fields().map(|field| (field.name, Some(field.ty)))),
            Type::Variant(variant) => self.named("variant", variant.cases().map(|case| (case.name, case.ty))),
            Type::Enum(cases) => self.named("enum", cases.names().map(|name| (name, None))),
            Type::Flags(flags) => self.named("flags", flags.names().map(|name| (name, None))),
            // What is left has no parts, but for resources and streams, which the contract does not use.
            plain => self.add(&format!("{plain:?}")),
        }
    }

    fn wrapped(&mut self, kind: &str, types: impl IntoIterator<Item = Option<Type>>) {
        self.add(kind);
        self.add("<");
        for ty in types {
            if self.is_over() {
                return;
            }
            match ty {
                Some(ty) => self.push(&ty),
                None => self.add("_"),
            }
            self.add(",");
        }
        self.add(">");
    }

    fn named<'p>(&mut self, kind: &str, parts: impl Iterator<Item = (&'p str, Option<Type>)>) {
        self.add(kind);
        self.add("{");
        for (name, ty) in parts {
            if self.is_over() {
                return;
            }
            self.add(name);
            if let Some(ty) = ty {
                self.add(":");
                self.push(&ty);
            }
            self.add(",");
        }
        self.add("}");
    }
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        Alias, CanonicalFunctionSection, CanonicalOption, CodeSection, ComponentAliasSection, ComponentExportKind,
        ComponentExportSection, ComponentImportSection, ComponentInstanceSection, ComponentTypeRef,
        ComponentTypeSection, ComponentValType, ExportKind, ExportSection, Function, FunctionSection, InstanceSection,
        MemorySection, MemoryType, Module, ModuleArg, ModuleSection, PrimitiveValType, TypeBounds, TypeSection,
        ValType,
    };

    use super::*;

    /// A module with a function that takes a pointer, and what its arguments need.
    fn module() -> Module {
        let (mut types, mut functions, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
        types.ty().function([ValType::I32; 4], [ValType::I32]);
        types.ty().function([ValType::I32], []);
        for ty in 0..2 {
            functions.function(ty);
            let mut body = Function::new([]);
            body.instructions().unreachable().end();
            code.function(&body);
        }
        let (mut memories, mut exports) = (MemorySection::new(), ExportSection::new());
        memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
        exports.export("realloc", ExportKind::Func, 0).export("handle", ExportKind::Func, 1);
        exports.export("memory", ExportKind::Memory, 0);
        let mut module = Module::new();
        module.section(&types).section(&functions).section(&memories).section(&exports).section(&code);
        module
    }

    /// A function of the contract's name, whose parameter is a pair of pairs of pairs, so deep, of a record with this name.
    fn doubling(name: &str, levels: u32) -> Component {
        let (mut record, mut imports) = (ComponentTypeSection::new(), ComponentImportSection::new());
        record.defined_type().record([(name, ComponentValType::Primitive(PrimitiveValType::U32))]);
        // What is imported has a name, as records must, and is the next type.
        imports.import("named", ComponentTypeRef::Type(TypeBounds::Eq(0)));
        let mut types = ComponentTypeSection::new();
        for below in 1..=levels {
            types.defined_type().tuple([ComponentValType::Type(below); 2]);
        }
        types.function().params([("function", ComponentValType::Type(levels + 1))]).result(None);

        let (mut instance, mut aliases) = (InstanceSection::new(), ComponentAliasSection::new());
        instance.instantiate::<[(&str, ModuleArg); 0], _>(0, []);
        for (kind, name) in
            [(ExportKind::Memory, "memory"), (ExportKind::Func, "realloc"), (ExportKind::Func, "handle")]
        {
            aliases.alias(Alias::CoreInstanceExport { instance: 0, kind, name });
        }
        let mut lifted = CanonicalFunctionSection::new();
        lifted.lift(1, levels + 2, [CanonicalOption::Memory(0), CanonicalOption::Realloc(0)]);
        let (mut instances, mut exports) = (ComponentInstanceSection::new(), ComponentExportSection::new());
        instances.export_items([("handle", ComponentExportKind::Func, 0)]);
        exports.export("stile:plugin/pre@0.1.0", ComponentExportKind::Instance, 0, None);

        let mut component = wasm_encoder::Component::new();
        component.section(&record).section(&imports).section(&types).section(&ModuleSection(&module()));
        component.section(&instance).section(&aliases).section(&lifted).section(&instances).section(&exports);
        Component::new(&wasmtime::Engine::default(), component.finish()).expect("it compiles")
    }

    #[test]
    fn a_type_that_would_be_a_very_long_text_is_compared_in_bounds() {
        // A hundred kilobytes become four hundred megabytes; a few levels more, and it is gigabytes.
        let component = doubling(&"a".repeat(100_000), 12);
        let compared = each(&component, "stile:plugin", |_, _, ty| {
            assert!(Rendered::of(ty, 5_000).len() < 5_000 + 100_100);
            Ok(())
        });

        assert_eq!(compared, Ok(()));
        let mismatch = Mismatch { function: "pre.handle".to_owned(), reason: "has another type than the contract's" };
        assert_eq!(check(&component, "stile:plugin"), Err(mismatch));
    }

    #[test]
    fn a_type_in_bounds_is_written_out() {
        let exported = exported(&doubling("a", 5), "stile:plugin");
        let whole = (0..5).fold("record{a:U32,}".to_owned(), |half, _| format!("tuple<{half},{half},>"));
        assert_eq!(exported, [("pre.handle".to_owned(), format!("func(function: {whole},)->"))]);
    }
}
