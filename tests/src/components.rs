//! Components that are hard to compile.

use wasm_encoder::{
    BlockType, CodeSection, Component, Function, FunctionSection, Module, ModuleSection, NestedComponentSection,
    TypeSection, ValType,
};

/// A component with one module, whose functions have these bodies. It exports nothing, so no gateway uses it: where it
/// compiles, that is what is wrong with it.
#[must_use]
pub fn with_functions(bodies: &[Function]) -> Vec<u8> {
    let (mut types, mut functions, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([ValType::I32], [ValType::I32]);
    for body in bodies {
        functions.function(0);
        code.function(body);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&code);
    of_module(&module)
}

/// A component with this module.
#[must_use]
pub fn of_module(module: &Module) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&ModuleSection(module));
    component.finish()
}

/// A long calculation without a branch.
#[must_use]
pub fn long(steps: i32) -> Function {
    let mut body = Function::new([]);
    let mut instructions = body.instructions();
    for step in 0..steps {
        instructions.local_get(0).i32_const(step | 1).i32_mul().i32_const(step).i32_xor().local_set(0);
    }
    instructions.local_get(0).end();
    body
}

/// Blocks within blocks.
#[must_use]
pub fn deep(levels: usize) -> Function {
    let mut body = Function::new([]);
    let mut instructions = body.instructions();
    for _ in 0..levels {
        instructions.block(BlockType::Empty).local_get(0).br_if(0);
    }
    for _ in 0..levels {
        instructions.end();
    }
    instructions.local_get(0).end();
    body
}

/// Components within components.
#[must_use]
pub fn nested(levels: usize) -> Vec<u8> {
    within_one_another(levels).finish()
}

/// Components within components, to be put into another one.
#[must_use]
pub fn within_one_another(levels: usize) -> Component {
    (0..levels).fold(Component::new(), |inner, _| {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&inner));
        outer
    })
}
