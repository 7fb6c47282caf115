//! Reads `#[plugin]` and its impl block.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Error, Expr, ExprLit, FnArg, GenericArgument, Ident, ImplItem, ImplItemFn, ItemImpl, Lit, LitStr, PathArguments,
    Result, Signature, Type, TypeReference, meta::ParseNestedMeta, parse::Parser, spanned::Spanned,
};

use crate::{
    hook::{Argument, HOOKS, Hook},
    reads::Reads,
};

pub(crate) struct Plugin {
    /// The impl block without our attributes.
    pub(crate) item: ItemImpl,
    pub(crate) state: State,
    pub(crate) functions: Vec<Function>,
    pub(crate) capabilities: Vec<(String, LitStr)>,
    pub(crate) counters: Vec<(String, LitStr)>,
    pub(crate) histograms: Vec<(String, LitStr)>,
}

/// Where `&self` comes from.
pub(crate) enum State {
    None,
    /// The type is its configuration.
    Config,
    /// The type is a tuple struct around its configuration.
    Around(Type),
    /// `fn new()`
    New,
    /// `fn new(config)`
    NewFrom(Type),
}

pub(crate) struct Function {
    pub(crate) hook: Hook,
    pub(crate) ident: Ident,
    pub(crate) name: String,
    pub(crate) reads: Reads,
    pub(crate) takes_self: bool,
    pub(crate) arguments: Vec<Argument>,
}

#[derive(Default)]
struct Keys {
    config: Option<Type>,
    capabilities: Vec<(String, LitStr)>,
    counters: Vec<(String, LitStr)>,
    histograms: Vec<(String, LitStr)>,
}

pub(crate) fn plugin(arguments: TokenStream, item: TokenStream) -> Result<Plugin> {
    let mut item: ItemImpl = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), "`#[plugin]` goes on an impl block: `#[plugin] impl Hello { … }`"))?;
    if let Some((path, _)) = &item.trait_ {
        return Err(Error::new_spanned(path, "`#[plugin]` goes on the type's own impl block, not on a trait's"));
    }
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "a plugin has no generics: the gateway makes its instances"));
    }
    let mut keys = Keys::default();
    syn::meta::parser(|meta| keys.key(&meta)).parse2(arguments)?;

    if let Some((_, help)) = keys.counters.first().or(keys.histograms.first())
        && !keys.capabilities.iter().any(|(name, _)| name == "metrics")
    {
        return Err(Error::new_spanned(help, "writing metrics is a capability: add `capabilities(metrics = \"why\")`"));
    }

    let mut functions = Vec::new();
    let mut new = None;
    let mut errors = Errors::default();
    for method in item.items.iter_mut().filter_map(as_method) {
        match take_hook(method) {
            Ok(Some((hook, reads))) => functions.extend(errors.catch(function(hook, reads, &method.sig))),
            Ok(None) if method.sig.ident == "new" => new = errors.catch(constructor(&method.sig)),
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    errors.finish()?;

    let state = state(keys.config, new, &item)?;
    if matches!(state, State::None)
        && let Some(function) = functions.iter().find(|function| function.takes_self)
    {
        let hint = "`&self` needs `#[plugin(config = …)]` or a method `new` that makes the plugin";
        return Err(Error::new(function.ident.span(), hint));
    }
    if functions.is_empty() {
        let attributes = HOOKS.map(|hook| format!("`#[{}]`", hook.attribute())).join(", ");
        return Err(Error::new_spanned(&item.self_ty, format!("no function for a hook: mark one with {attributes}")));
    }
    for (index, function) in functions.iter().enumerate() {
        let same = |other: &Function| other.hook == function.hook && other.name == function.name;
        if functions.iter().take(index).any(same) {
            let text = format!("`#[{}]` has two functions named `{}`", function.hook.attribute(), function.name);
            return Err(Error::new(function.ident.span(), text));
        }
    }
    let Keys { capabilities, counters, histograms, .. } = keys;
    Ok(Plugin { item, state, functions, capabilities, counters, histograms })
}

impl Keys {
    fn key(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("config") {
            self.config = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("capabilities") {
            self.capabilities = pairs(meta)?;
            for (name, _) in &mut self.capabilities {
                *name = name.replace('_', "-");
                let known = [
                    "log",
                    "kv",
                    "metrics",
                    "sessions-read",
                    "sessions",
                    "outgoing-http",
                    "secrets",
                    "upstream",
                    "apis",
                    "session-limits",
                ];
                if !known.contains(&name.as_str()) {
                    let known = known.join("`, `").replace('-', "_");
                    return Err(meta.error(format!("unknown capability `{name}`: there are `{known}`")));
                }
            }
        } else if meta.path.is_ident("counters") {
            self.counters = pairs(meta)?;
        } else if meta.path.is_ident("histograms") {
            self.histograms = pairs(meta)?;
        } else {
            let keys = "`config = …`, `capabilities(…)`, `counters(…)` and `histograms(…)`";
            return Err(meta.error(format!("unknown key: `#[plugin]` knows {keys}")));
        }
        Ok(())
    }
}

/// `(name = "text", …)`
fn pairs(meta: &ParseNestedMeta<'_>) -> Result<Vec<(String, LitStr)>> {
    let mut pairs = Vec::new();
    meta.parse_nested_meta(|pair| {
        let name = pair.path.require_ident()?.to_string();
        match pair.value()?.parse()? {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => pairs.push((name, text)),
            other => return Err(Error::new_spanned(other, "expected a text")),
        }
        Ok(())
    })?;
    Ok(pairs)
}

fn as_method(item: &mut ImplItem) -> Option<&mut ImplItemFn> {
    match item {
        ImplItem::Fn(method) => Some(method),
        _ => None,
    }
}

/// Takes the hook's attribute off a method.
fn take_hook(method: &mut ImplItemFn) -> Result<Option<(Hook, Reads)>> {
    let mut found = None;
    let mut rest = Vec::new();
    for attribute in method.attrs.drain(..) {
        match attribute.path().get_ident().and_then(Hook::from_attribute) {
            Some(_) if found.is_some() => {
                return Err(Error::new_spanned(
                    attribute,
                    "a function belongs to one hook: write another that calls it",
                ));
            }
            Some(hook) => found = Some((hook, Reads::parse(hook, &attribute)?)),
            None => rest.push(attribute),
        }
    }
    method.attrs = rest;
    Ok(found)
}

fn function(hook: Hook, reads: Reads, signature: &Signature) -> Result<Function> {
    if let Some(asyncness) = signature.asyncness {
        return Err(Error::new_spanned(asyncness, "a function of a plugin cannot be async"));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(&signature.generics, "a function of a plugin has no generics"));
    }
    let mut takes_self = false;
    let mut arguments = Vec::new();
    for input in &signature.inputs {
        match input {
            FnArg::Receiver(receiver) => {
                if receiver.to_token_stream().to_string() != "& self" {
                    let hint = "take `&self`; what changes between calls belongs in a `Cell` or in `kv`";
                    return Err(Error::new_spanned(receiver, hint));
                }
                takes_self = true;
            }
            FnArg::Typed(typed) => arguments.push(argument(hook, &typed.ty)?),
        }
    }
    let ident = signature.ident.clone();
    let name = reads.name.as_ref().map_or_else(|| ident.to_string(), LitStr::value);
    Ok(Function { hook, ident, name, reads, takes_self, arguments })
}

fn argument(hook: Hook, ty: &Type) -> Result<Argument> {
    let written = match ty {
        Type::Reference(reference) => referenced(reference),
        Type::Path(path) => path.path.segments.last().and_then(|last| match &last.arguments {
            PathArguments::AngleBracketed(inner) if last.ident == "Option" => match inner.args.first() {
                Some(GenericArgument::Type(Type::Reference(reference))) => {
                    referenced(reference).map(|inner| format!("Option<{inner}>"))
                }
                _ => None,
            },
            _ => None,
        }),
        _ => None,
    };
    let allowed = hook.arguments();
    let found = allowed.iter().copied().find(|argument| Some(argument.written()) == written.as_deref());
    found.ok_or_else(|| {
        let allowed: Vec<_> = allowed.iter().map(|argument| format!("`{}`", argument.written())).collect();
        Error::new(ty.span(), format!("a `#[{}]` function may take {}", hook.attribute(), allowed.join(", ")))
    })
}

fn referenced(reference: &TypeReference) -> Option<String> {
    let Type::Path(path) = &*reference.elem else { return None };
    let name = &path.path.segments.last()?.ident;
    Some(match reference.mutability {
        Some(_) => format!("&mut {name}"),
        None => format!("&{name}"),
    })
}

/// `fn new` with the type of the configuration that it takes.
struct Constructor(Option<Type>);

fn constructor(signature: &Signature) -> Result<Constructor> {
    let inputs: Vec<_> = signature.inputs.iter().collect();
    match inputs.as_slice() {
        [] => Ok(Constructor(None)),
        [FnArg::Typed(config)] => Ok(Constructor(Some((*config.ty).clone()))),
        _ => Err(Error::new_spanned(
            &signature.inputs,
            "`new` of a plugin takes its configuration or nothing; call it otherwise if it is for something else",
        )),
    }
}

fn state(config: Option<Type>, new: Option<Constructor>, item: &ItemImpl) -> Result<State> {
    match (config, new) {
        (None, None) => Ok(State::None),
        (None, Some(Constructor(None))) => Ok(State::New),
        (None, Some(Constructor(Some(config)))) => Ok(State::NewFrom(config)),
        (Some(config), None) if is_own(&config, &item.self_ty) => Ok(State::Config),
        (Some(config), None) => Ok(State::Around(config)),
        (Some(config), Some(_)) => {
            Err(Error::new_spanned(config, "`new` says already what the configuration is: leave `config = …` out"))
        }
    }
}

/// Whether the configuration is the plugin's own type.
fn is_own(config: &Type, this: &Type) -> bool {
    let config = config.to_token_stream().to_string();
    config == "Self" || config == this.to_token_stream().to_string()
}

/// All errors of a block at once.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn catch<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use proc_macro2::TokenStream;

    use super::plugin;

    fn errors(arguments: &str, item: &str) -> String {
        let parse = |text: &str| text.parse::<TokenStream>().expect("the test is written in Rust");
        match plugin(parse(arguments), parse(item)) {
            Ok(_) => String::new(),
            Err(error) => error.into_iter().map(|error| error.to_string()).collect::<Vec<_>>().join("\n"),
        }
    }

    fn check(functions: &str, expected: &str) {
        let found = errors("", &format!("impl Example {{ {functions} }}"));
        assert!(if expected.is_empty() { found.is_empty() } else { found.contains(expected) }, "{functions}: {found}");
    }

    #[test]
    fn functions_that_fit_their_hook_are_taken() {
        check("#[pre] fn a() {}", "");
        check("#[pre] fn a(context: &Context, request: &mut stile_sdk::Request) {}", "");
        check("#[auth] fn a(c: Option<&Credential>) -> Refusal {}", "");
        check("#[response(request_headers = all, body = 1 << 20)] fn a(r: &mut Response, q: &Request) {}", "");
        check("#[analytics(headers = [\"cookie\"], body)] fn a(r: &mut Record) {} #[analytics] fn b() {}", "");
        check("fn new() -> Self {} #[pre] fn a(&self) {}", "");
    }

    #[test]
    fn a_wrong_signature_is_told_what_is_right() {
        check("#[pre] fn a(r: Request) {}", "a `#[pre]` function may take `&mut Request`, `&Context`");
        check("#[pre] fn a(s: Option<&Session>) {}", "may take `&mut Request`, `&Context`");
        check("#[response] fn a(r: &mut Request) {}", "may take `&mut Response`, `&Request`");
        check("#[post] fn a(&mut self) {}", "take `&self`; what changes between calls");
        check("#[post] fn a(&self) {}", "`&self` needs `#[plugin(config = …)]` or a method `new`");
        check("#[post] async fn a() {}", "cannot be async");
        check("#[post] fn a<T>() {}", "has no generics");
        check("#[pre] #[post] fn a() {}", "belongs to one hook");
    }

    #[test]
    fn a_wrong_key_is_told_the_right_ones() {
        check(
            "#[pre(header = [])] fn a() {}",
            "unknown key `header`: `#[pre]` knows `headers`, `body`, `context` and `name`",
        );
        check("#[pre(headers = some)] fn a() {}", "or `all`");
        check("#[pre(headers = [\"a b\"])] fn a() {}", "not the name of a header");
        check("#[pre(body)] fn a() {}", "say how many bytes at most");
        check("#[analytics(body = 1)] fn a() {}", "write just `body`");
        check("#[pre(session)] fn a() {}", "see no session");
        check("#[post(session)] fn a() {}", "take an argument `session: Option<&Session>`");
        check("#[pre(context = [client])] fn a() {}", "no part of the context: there are `request_id`");
        check("#[pre(request_headers = all)] fn a() {}", "is for `#[response]`");
    }

    #[test]
    fn every_error_of_a_block_is_told_at_once() {
        let found = errors("", "impl A { #[pre(x)] fn a() {} #[post] fn b(r: u8) {} }");
        assert_eq!(found.lines().count(), 2, "{found}");
    }

    #[test]
    fn a_block_that_is_no_plugin_is_told_why() {
        check("", "no function for a hook: mark one with `#[pre]`");
        check("#[pre] fn a() {} #[pre(name = \"a\")] fn b() {}", "two functions named `a`");
        assert!(errors("", "struct A;").contains("goes on an impl block"));
        assert!(errors("", "impl Clone for A {}").contains("not on a trait's"));
        assert!(errors("", "impl<T> A<T> {}").contains("no generics"));
        assert!(errors("capability(kv = \"\")", "impl A {}").contains("`#[plugin]` knows"));
        assert!(errors("capabilities(files = \"\")", "impl A {}").contains("unknown capability `files`"));
        assert!(errors("counters(a = \"\")", "impl A {}").contains("add `capabilities(metrics"));
        assert!(errors("config = A", "impl A { fn new(c: C) {} #[pre] fn a() {} }").contains("leave `config = …` out"));
    }
}
