//! What manifests of registries say: which layer is the component, and which manifest of an index has it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::FetchError;
use crate::model::digest::Digest;

/// What of a manifest, or of an index of manifests, matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
    /// Of an index.
    #[serde(default)]
    manifests: Vec<Entry>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Layer {
    media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// A manifest of an index.
#[derive(Debug, Deserialize)]
struct Entry {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Debug, Default, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

impl Entry {
    fn os(&self) -> &str {
        self.platform.as_ref().map_or("", |platform| &platform.os)
    }

    fn architecture(&self) -> &str {
        self.platform.as_ref().map_or("", |platform| &platform.architecture)
    }
}

impl Manifest {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, FetchError> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| FetchError::invalid(format!("its manifest cannot be read: {error}")))?;
        // Others could read the same bytes in the other way.
        if !manifest.layers.is_empty() && !manifest.manifests.is_empty() {
            return Err(FetchError::invalid("its manifest is an index and has layers"));
        }
        Ok(manifest)
    }

    /// Of an index, the manifest that has the component.
    pub(super) fn chosen(&self) -> Result<Option<Digest>, FetchError> {
        if self.manifests.is_empty() {
            return Ok(None);
        }
        // What tells how an image was built stands beside it, for no platform.
        let all: Vec<&Entry> = self.manifests.iter().filter(|entry| entry.os() != "unknown").collect();
        let is_wasm = |entry: &&&Entry| ARCHITECTURES.contains(&entry.architecture());
        let of_wasm: Vec<&Entry> = all.iter().filter(is_wasm).copied().collect();
        let is_component = |entry: &&&Entry| entry.os() == COMPONENT_OS;
        let components: Vec<&Entry> = of_wasm.iter().filter(is_component).copied().collect();
        let alone =
            |entries: &[&Entry]| entries.first().filter(|_| entries.len() == 1).map(|entry| entry.digest.clone());
        let Some(chosen) = alone(&all).or_else(|| alone(&of_wasm)).or_else(|| alone(&components)) else {
            return Err(FetchError::invalid(format!(
                "its index has {} manifests, and not one alone for `{COMPONENT_OS}/wasm`: name one by its digest; there are {}",
                all.len(),
                listed(&all)
            )));
        };
        let digest = Digest::parse(&chosen).filter(|_| chosen.starts_with("sha256:"));
        digest.map(Some).ok_or_else(|| FetchError::invalid("its index has a manifest without a sha256"))
    }

    /// The one layer that is a component.
    pub(super) fn component(&self) -> Result<&Layer, FetchError> {
        if !self.manifests.is_empty() {
            return Err(FetchError::invalid("its index leads to another index"));
        }
        let mut components = self.layers.iter().filter(|layer| COMPONENTS.contains(&layer.media_type.as_str()));
        match (components.next(), components.next()) {
            (Some(layer), None) => Ok(layer),
            (Some(_), Some(_)) => Err(FetchError::invalid("its manifest has several layers of WebAssembly")),
            (None, _) => {
                let reason = "its manifest has no layer of `application/wasm`; name the manifest of one component";
                Err(FetchError::invalid(reason))
            }
        }
    }

    /// The signature of a layer, in base64.
    pub(super) fn signature<'m>(&'m self, layer: &'m Layer) -> Option<&'m str> {
        layer.annotations.get(SIGNATURE).or_else(|| self.annotations.get(SIGNATURE)).map(String::as_str)
    }
}

/// The first few of them.
fn listed(entries: &[&Entry]) -> String {
    let shown = entries.iter().take(LISTED_MAX).map(|entry| match (entry.os(), entry.architecture()) {
        ("", "") => format!("{} (no platform)", entry.digest),
        (os, architecture) => format!("{} ({os}/{architecture})", entry.digest),
    });
    let mut shown: Vec<String> = shown.collect();
    if entries.len() > LISTED_MAX {
        shown.push("more".to_owned());
    }
    shown.join(", ")
}

pub(super) const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";
/// What tools call a component, or had called it.
const COMPONENTS: [&str; 3] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];
/// The CNCF's layout of artifacts says `wasm`, with `wasip1` for modules and `wasip2` for components; others say `wasm32`.
const ARCHITECTURES: [&str; 2] = ["wasm", "wasm32"];
const COMPONENT_OS: &str = "wasip2";
/// Of layer or manifest: the signature of the layer, in base64.
const SIGNATURE: &str = "stile.signature.ed25519";
const LISTED_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_has_one_component() {
        let layer = |kind: &str| format!("{{\"mediaType\":\"{kind}\",\"digest\":\"sha256:00\",\"size\":1}}");
        let of = |layers: &[&str]| {
            let layers: Vec<String> = layers.iter().map(|kind| layer(kind)).collect();
            let manifest =
                Manifest::read(format!("{{\"layers\":[{}]}}", layers.join(",")).as_bytes()).expect("a manifest");
            manifest.component().map(|layer| layer.media_type.clone()).ok()
        };
        assert_eq!(of(&["text/plain", "application/wasm"]).as_deref(), Some("application/wasm"));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["application/wasm", "application/wasm"]), None);
        assert_eq!(of(&["application/vnd.oci.image.layer.v1.tar+gzip"]), None);
    }

    /// Which of the manifests of an index for these platforms is chosen, or a part of why none is.
    #[track_caller]
    fn check(platforms: &[&str], expected: Result<usize, &str>) {
        let digest = |index: usize| Digest::of(&index.to_be_bytes());
        let entry = |(index, platform): (usize, &&str)| {
            let platform = platform.split_once('/').map(|(os, architecture)| {
                format!(",\"platform\":{{\"os\":\"{os}\",\"architecture\":\"{architecture}\"}}")
            });
            format!("{{\"digest\":\"sha256:{}\"{}}}", digest(index).hex(), platform.unwrap_or_default())
        };
        let entries: Vec<String> = platforms.iter().enumerate().map(entry).collect();
        let index = Manifest::read(format!("{{\"manifests\":[{}]}}", entries.join(",")).as_bytes()).expect("an index");
        match (index.chosen(), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, Some(digest(expected)), "{platforms:?}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{platforms:?}: {error}"),
            (found, _) => panic!("{platforms:?}: {found:?}"),
        }
    }

    #[test]
    fn an_index_has_one_manifest_or_one_for_components() {
        check(&["none"], Ok(0));
        check(&["linux/amd64"], Ok(0));
        check(&["linux/amd64", "unknown/unknown"], Ok(0));
        check(&["linux/amd64", "wasi/wasm32", "linux/arm64"], Ok(1));
        check(&["linux/amd64", "wasip1/wasm"], Ok(1));
        check(&["wasip1/wasm", "wasip2/wasm", "none"], Ok(1));
        check(&["unknown/unknown"], Err("has 0 manifests"));
        check(&["linux/amd64", "none"], Err("(linux/amd64), sha256:"));
        check(&["linux/amd64", "none"], Err("(no platform)"));
        check(&["wasip1/wasm", "wasi/wasm"], Err("(wasip1/wasm), sha256:"));
        check(&["wasip2/wasm", "wasip2/wasm"], Err("has 2 manifests, and not one alone for `wasip2/wasm`"));
        check(&["linux/a"; 7], Err("(linux/a), more"));
    }

    #[test]
    fn what_is_both_index_and_manifest_is_neither() {
        let both =
            "{\"layers\":[{\"mediaType\":\"a\",\"digest\":\"b\",\"size\":1}],\"manifests\":[{\"digest\":\"c\"}]}";
        assert!(Manifest::read(both.as_bytes()).is_err());
        let manifest = Manifest::read(b"{\"layers\":[]}").expect("a manifest");
        assert_eq!(manifest.chosen(), Ok(None));
    }
}
