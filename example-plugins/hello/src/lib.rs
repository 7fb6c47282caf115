use stile_sdk::prelude::*;

struct Hello;

#[plugin]
impl Hello {
    #[pre]
    fn hello(request: &mut Request) {
        request.headers.set("x-hello", "world");
    }
}
