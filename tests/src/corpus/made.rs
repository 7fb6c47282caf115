//! Components that are made rather than written: too large or too broken for a file.

use wasm_encoder::{Component, ComponentSectionId, InstanceSection, Module, RawSection, TypeSection};
use wasmparser::{Parser, Payload};

use crate::components::{deep, long, nested, of_module, with_functions};
use crate::guest;

/// The component of a recipe.
pub(super) fn component(recipe: &str) -> Vec<u8> {
    match recipe {
        "half of a component" => {
            let whole = good();
            whole.get(..whole.len() / 2).expect("a half").to_vec()
        }
        "a component with its middle turned over" => {
            let mut whole = good();
            let middle = whole.len() / 2;
            whole.iter_mut().skip(middle).take(64).for_each(|byte| *byte = !*byte);
            whole
        }
        "forty megabytes of nothing" => {
            let mut component = good();
            // A custom section: its id, its length in five bytes, an empty name, and what nobody reads.
            component.extend([0, 0x80, 0x80, 0x80, 0x14]);
            component.resize(component.len() + (40 << 20), 0);
            component
        }
        "a component within ten thousand others" => nested(10_000),
        "blocks within a hundred thousand others" => with_functions(&[deep(100_000)]),
        "a function without a branch" => with_functions(&[long(60_000)]),
        "a hundred long functions" => with_functions(&vec![long(4_000); 100]),
        "two thousand functions" => with_functions(&vec![long(1); 2_000]),
        "two hundred thousand types" => {
            let mut types = TypeSection::new();
            (0..200_000).for_each(|_| types.ty().function([], []));
            let mut module = Module::new();
            module.section(&types);
            of_module(&module)
        }
        _ => panic!("nobody knows how to make {recipe}"),
    }
}

/// A good plugin with this core module beside its own ones: an instance of it is made with the plugin's.
pub(super) fn beside(module: &[u8]) -> Vec<u8> {
    let mut component = good();
    let (mut depth, mut count) = (0_u32, 0);
    for payload in Parser::new(0).parse_all(&component) {
        match payload.expect("it is a component") {
            Payload::ModuleSection { .. } => {
                count += u32::from(depth == 0);
                depth += 1;
            }
            Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    let mut instances = InstanceSection::new();
    instances.instantiate(count, std::iter::empty::<(&str, _)>());
    let mut more = Component::new();
    more.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: module }).section(&instances);
    component.extend_from_slice(more.finish().get(Component::HEADER.len()..).expect("a header comes first"));
    component
}

fn good() -> Vec<u8> {
    std::fs::read(guest("hello")).expect("it was built")
}
