//! What a component is made of, counted before anything works on it: reading the sections is cheap, compiling is not.

use wasmparser::{Parser, Payload};

use super::failure::{LoadError, escaped_reason};
use crate::model::id::PluginName;
use crate::model::plugin::Limits;

/// That a component has no more functions, modules, types and nesting than its limits say.
pub fn check(plugin: &PluginName, wasm: &[u8], limits: &Limits) -> Result<(), LoadError> {
    let (mut functions, mut modules, mut types, mut nesting) = (0_u64, 0_u64, 0_u64, 0_u64);
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(|error| LoadError::Compile {
            plugin: plugin.clone(),
            reason: escaped_reason(&error.to_string()),
        })?;
        match payload {
            Payload::FunctionSection(section) => functions += u64::from(section.count()),
            Payload::TypeSection(section) => types += u64::from(section.count()),
            Payload::CoreTypeSection(section) => types += u64::from(section.count()),
            Payload::ComponentTypeSection(section) => types += u64::from(section.count()),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                modules += 1;
                nesting += 1;
            }
            Payload::End(_) => nesting = nesting.saturating_sub(1),
            _ => continue,
        }
        let counts = [
            ("functions", functions, limits.functions_max, "functions_max"),
            ("modules and components", modules, limits.modules_max, "modules_max"),
            ("types", types, limits.types_max, "types_max"),
            ("levels of components within one another", nesting, limits.nesting_max, "nesting_max"),
        ];
        if let Some((what, count, max, key)) = counts.into_iter().find(|(_, count, max, _)| *count > u64::from(*max)) {
            return Err(LoadError::Shape { plugin: plugin.clone(), what, count, max, key });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        CodeSection, Component, Function, FunctionSection, Module, ModuleSection, NestedComponentSection, TypeSection,
    };

    use super::*;

    fn module(functions: u32, types: u32) -> Module {
        let (mut type_section, mut function_section, mut code) =
            (TypeSection::new(), FunctionSection::new(), CodeSection::new());
        for _ in 0..types {
            type_section.ty().function([], []);
        }
        for _ in 0..functions {
            function_section.function(0);
            let mut body = Function::new([]);
            body.instructions().end();
            code.function(&body);
        }
        let mut module = Module::new();
        module.section(&type_section).section(&function_section).section(&code);
        module
    }

    fn with_modules(modules: &[Module]) -> Component {
        let mut component = Component::new();
        for module in modules {
            component.section(&ModuleSection(module));
        }
        component
    }

    /// A component in components, so many levels in all below the outermost.
    fn nested(levels: usize) -> Component {
        (0..levels).fold(Component::new(), |inner, _| {
            let mut outer = Component::new();
            outer.section(&NestedComponentSection(&inner));
            outer
        })
    }

    /// `below` is taken, `above` is refused by the limit of this name.
    fn bites(limits: &Limits, key: &str, below: Component, above: Component) {
        let plugin = PluginName::parse("big").expect("a name");
        assert!(check(&plugin, &below.finish(), limits).is_ok(), "{key}");
        let error = check(&plugin, &above.finish(), limits).expect_err(key).to_string();
        assert!(error.contains("plugin `big`") && error.contains(&format!("`limits.{key}`")), "{error}");
    }

    #[test]
    fn each_count_has_its_limit() {
        let limits = Limits { functions_max: 4, modules_max: 3, types_max: 5, nesting_max: 2, ..Limits::default() };
        bites(
            &limits,
            "functions_max",
            with_modules(&[module(2, 1), module(2, 1)]),
            with_modules(&[module(3, 1), module(2, 1)]),
        );
        let modules = |count| with_modules(&vec![module(0, 0); count]);
        bites(&limits, "modules_max", modules(3), modules(4));
        bites(&limits, "types_max", with_modules(&[module(0, 5)]), with_modules(&[module(0, 3), module(0, 3)]));
        bites(&limits, "nesting_max", nested(2), nested(3));
    }

    #[test]
    fn a_count_that_is_a_lie_costs_nothing() {
        // A type section that claims four billion types.
        let wasm = b"\0asm\x0d\0\x01\0\x07\x05\xff\xff\xff\xff\x0f";
        let error = check(&PluginName::parse("liar").expect("a name"), wasm, &Limits::default());
        assert!(error.expect_err("refused").to_string().contains("4294967295 types"));
    }
}
