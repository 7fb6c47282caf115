//! The plugin of the benchmark: reads every header, sets one to their number, removes one.

use stile_sdk::prelude::*;

struct Bench;

#[plugin]
impl Bench {
    #[pre(headers = all)]
    fn bench(request: &mut Request) {
        let count = request.headers.iter().count();
        request.headers.set("x-foo", count.to_string());
        request.headers.remove("x-remove");
    }
}
