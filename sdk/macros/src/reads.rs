//! The keys of a hook's attribute: what its function reads.

use syn::{
    Attribute, Error, Expr, ExprArray, Ident, Lit, LitStr, Meta, Path, Result, Token, bracketed, meta::ParseNestedMeta,
    parse::ParseStream, punctuated::Punctuated,
};

use crate::hook::Hook;

#[derive(Default)]
pub(crate) struct Reads {
    pub(crate) name: Option<LitStr>,
    pub(crate) headers: Headers,
    pub(crate) body: Option<Body>,
    pub(crate) request_headers: Headers,
    /// Flags of `ContextFields`.
    pub(crate) context: Vec<Ident>,
}

pub(crate) enum Headers {
    Named(Vec<String>),
    All,
}

pub(crate) enum Body {
    UpTo(Expr),
    Recorded,
}

impl Default for Headers {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

const CONTEXT: [&str; 6] = ["request_id", "api", "endpoint", "host", "variables", "vars"];

impl Reads {
    pub(crate) fn parse(hook: Hook, attribute: &Attribute) -> Result<Self> {
        let mut reads = Self::default();
        match &attribute.meta {
            Meta::Path(_) => {}
            _ => attribute.parse_nested_meta(|meta| reads.key(hook, &meta))?,
        }
        Ok(reads)
    }

    fn key(&mut self, hook: Hook, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let key = meta.path.require_ident()?.to_string();
        match (key.as_str(), hook) {
            ("name", _) => self.name = Some(function_name(meta.value()?)?),
            ("headers", _) => self.headers = headers(meta.value()?)?,
            ("body", Hook::Analytics) => {
                if !meta.input.is_empty() && !meta.input.peek(Token![,]) {
                    return Err(meta.error("recorded bodies have their own limit: write just `body`"));
                }
                self.body = Some(Body::Recorded);
            }
            ("body", _) => {
                if !meta.input.peek(Token![=]) {
                    return Err(meta.error("say how many bytes at most, for example `body = 64 * 1024`"));
                }
                self.body = Some(Body::UpTo(meta.value()?.parse()?));
            }
            ("request_headers", Hook::Response) => self.request_headers = headers(meta.value()?)?,
            ("request_headers", _) => return Err(meta.error("`request_headers` is for `#[response]`; write `headers`")),
            ("context", Hook::Analytics) => return Err(meta.error("an `#[analytics]` function has no context")),
            ("context", _) => self.context = context(meta.value()?)?,
            ("session", _) => {
                return Err(meta.error(match hook {
                    Hook::Pre | Hook::Auth | Hook::Analytics => "functions of this hook see no session",
                    _ => "take an argument `session: Option<&Session>` instead: it is handed over when it is there",
                }));
            }
            _ => {
                let keys = match hook {
                    Hook::Response => "`headers`, `body`, `request_headers`, `context` and `name`",
                    Hook::Analytics => "`headers`, `body` and `name`",
                    _ => "`headers`, `body`, `context` and `name`",
                };
                return Err(meta.error(format!("unknown key `{key}`: `#[{}]` knows {keys}", hook.attribute())));
            }
        }
        Ok(())
    }
}

fn function_name(input: ParseStream<'_>) -> Result<LitStr> {
    let name: LitStr = input.parse()?;
    match name.value().is_empty() {
        true => Err(Error::new_spanned(name, "a function's name cannot be empty")),
        false => Ok(name),
    }
}

fn headers(input: ParseStream<'_>) -> Result<Headers> {
    const HINT: &str = "expected names, for example `[\"authorization\"]`, or `all`";
    if input.peek(Ident) {
        let word: Path = input.parse()?;
        return match word.is_ident("all") {
            true => Ok(Headers::All),
            false => Err(Error::new_spanned(word, HINT)),
        };
    }
    let names: ExprArray = input.parse().map_err(|error| Error::new(error.span(), HINT))?;
    names.elems.iter().map(header).collect::<Result<_>>().map(Headers::Named)
}

fn header(name: &Expr) -> Result<String> {
    let Expr::Lit(literal) = name else {
        return Err(Error::new_spanned(name, "expected the name of a header as a text"));
    };
    let Lit::Str(text) = &literal.lit else {
        return Err(Error::new_spanned(name, "expected the name of a header as a text"));
    };
    let text = text.value();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !text.is_empty() && text.bytes().all(token) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(Error::new_spanned(name, "not the name of a header")),
    }
}

fn context(input: ParseStream<'_>) -> Result<Vec<Ident>> {
    let fields;
    bracketed!(fields in input);
    let fields = Punctuated::<Ident, Token![,]>::parse_terminated(&fields)?;
    let flag = |field: Ident| match CONTEXT.contains(&field.to_string().as_str()) {
        true => Ok(Ident::new(&field.to_string().to_ascii_uppercase(), field.span())),
        false => Err(Error::new(field.span(), format!("no part of the context: there are `{}`", CONTEXT.join("`, `")))),
    };
    fields.into_iter().map(flag).collect()
}
