use stile_sdk::prelude::*;

struct Swap;

#[plugin]
impl Swap {
    /// Says which version answers.
    #[pre]
    fn answer(_request: &mut Request) -> Reply {
        Reply::new(200).body(VERSION)
    }

    /// Marks what goes to the upstream.
    #[pre]
    fn mark(request: &mut Request) {
        request.headers.set("x-version-in", VERSION);
    }

    /// Marks what comes back: of one request both are by one version.
    #[response]
    fn mark_answer(response: &mut Response) {
        response.headers.set("x-version-out", VERSION);
    }
}
