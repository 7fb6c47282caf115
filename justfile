# What there is to do here. `just` lists it.

[private]
default:
    @just --list --unsorted

# Format, lints, floors, documentation
check:
    .ci/check

# All tests; installs what they need
test:
    .ci/test

# All plugins, to target/plugins/wasm32-wasip2/release
plugins:
    .ci/plugins

# Serve the demo
run:
    demo/run

# Serve what the benchmark asks: an upstream is expected on port 9000
bench: plugins
    cargo run --release --package stile -- serve --config tests/data/bench/stile.yaml

# Very many mixed requests through all hooks to a real nginx; every answer checked, memory watched
soak requests="100000":
    .ci/need nginx
    cargo run --release --package stile-tests --example soak -- {{ requests }}

# What h2spec says of the data port's HTTP/2, in cleartext and over TLS
h2spec:
    .ci/h2spec

# How long an API waits beside eight callers of a plugin that never ends: an upstream is expected on port 9000
neighbour:
    .ci/neighbour

# Feeds what reads strangers' bytes, each for so many seconds: docs/fuzzing.md
fuzz seconds="60" *targets="":
    .ci/fuzz {{ seconds }} {{ targets }}

# A gateway that is killed under load, so many times on a file and on Redis: nothing acknowledged is lost, no quota exceeded
kill rounds="100": plugins
    .ci/need redis-server
    STILE_KILLS={{ rounds }} cargo test --package stile-tests --test it stores::kill -- --nocapture

# Very many exchanges of a plugin while callers use it: no request fails or sees two versions, memory does not grow
swaps swaps="10000":
    cargo build --release --workspace --bin stile-of-tests --example swaps
    "${CARGO_TARGET_DIR:-target}"/release/examples/swaps {{ swaps }}

# From a plugin's file to the first request it answers: small and large, compiled and cached, and what others wait meanwhile
loads: plugins
    cargo build --release --workspace --bin stile-of-tests --example loads
    "${CARGO_TARGET_DIR:-target}"/release/examples/loads

# A thousand APIs with three of twenty plugins each: start, memory, requests a second
many: plugins
    cargo build --release --workspace --bin stile-of-tests --example many
    "${CARGO_TARGET_DIR:-target}"/release/examples/many

# Every attack of the corpus (or those named) while a neighbour API is asked: answers, times, and the neighbour's p99
hostile *attacks:
    cargo build --release --workspace --bin stile-of-tests --example hostile
    "${CARGO_TARGET_DIR:-target}"/release/examples/hostile {{ attacks }}

# Takes each guard of the corpus that is code (or those of the attacks named) out of the code: its attack's test must fail
guards *attacks:
    cargo test --quiet --workspace --no-run
    "${CARGO_TARGET_DIR:-target}"/debug/examples/guards {{ attacks }}
