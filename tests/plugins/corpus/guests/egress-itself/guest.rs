//! Asks the gateway for the API that it is in, which asks the gateway for the API that it is in.

use stile_sdk::prelude::*;

struct Itself;

#[plugin(capabilities(outgoing_http = "to get back in"))]
impl Itself {
    #[pre(headers = ["x-gateway"], context = [api])]
    fn attack(request: &mut Request, context: &Context) -> Result<Reply, String> {
        let gateway = request.headers.text("x-gateway").unwrap_or_default();
        let path = context.api.as_ref().map(|api| api.listen_path.as_str()).unwrap_or_default();
        let url = format!("http://{gateway}{path}1");
        let answer = http::get(url).header("x-gateway", gateway).send()?;
        Ok(Reply::new(200).body(answer.status.to_string()))
    }
}
