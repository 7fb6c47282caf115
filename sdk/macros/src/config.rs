//! `#[config]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Error, Result};

pub(crate) fn derive(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(arguments, "`#[config]` takes no arguments"));
    }
    let item: DeriveInput = syn::parse2(item)?;
    let rename = match item.data {
        Data::Enum(_) if !renames(&item.attrs) => quote!(, rename_all = "snake_case"),
        _ => TokenStream::new(),
    };
    Ok(quote! {
        #[derive(::stile_sdk::serde::Deserialize, ::stile_sdk::schemars::JsonSchema)]
        #[serde(crate = "::stile_sdk::serde", deny_unknown_fields #rename)]
        #[schemars(crate = "::stile_sdk::schemars")]
        #item
    })
}

fn renames(attributes: &[Attribute]) -> bool {
    let mut found = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        // What serde does not understand of its own attribute, it will say itself.
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.is_ident("rename_all");
            meta.input.parse::<TokenStream>().map(drop)
        });
    }
    found
}
