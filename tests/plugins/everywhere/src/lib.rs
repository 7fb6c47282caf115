//! A plugin that does one thing at every hook: what guests of the corpus are made of that attack wherever they are called.
//! Their function is called `attack` at each hook.

/// A plugin that runs `fn() -> Result<(), String>` and changes nothing. What follows goes to `#[plugin(…)]`.
#[macro_export]
macro_rules! act {
    ($attack:path $(, $($plugin:tt)*)?) => {
        $crate::answer!(
            |_: &mut stile_sdk::Request| $attack().map(|()| stile_sdk::Action::Continue),
            |_: &mut stile_sdk::Response| $attack(),
            |_: &mut stile_sdk::Record| $attack()
            $(, $($plugin)*)?
        );
    };
}

/// A plugin that changes what it is handed, with a function for requests, one for responses and one for records.
#[macro_export]
macro_rules! answer {
    ($request:expr, $response:expr, $record:expr $(, $($plugin:tt)*)?) => {
        struct Guest;

        #[stile_sdk::plugin($($($plugin)*)?)]
        impl Guest {
            #[pre]
            fn attack(request: &mut stile_sdk::Request) -> Result<stile_sdk::Action, String> {
                ($request)(request)
            }

            #[auth(name = "attack")]
            fn in_auth(request: &mut stile_sdk::Request) -> Result<stile_sdk::AuthAction, String> {
                use stile_sdk::{Action, AuthAction};
                Ok(match ($request)(request)? {
                    Action::Continue => AuthAction::Authenticated(stile_sdk::types::Session::new("guest")),
                    Action::Respond(reply) => AuthAction::Respond(reply),
                    Action::Reject(rejection) => AuthAction::Reject(rejection),
                })
            }

            #[post_auth(name = "attack")]
            fn in_post_auth(request: &mut stile_sdk::Request) -> Result<stile_sdk::Action, String> {
                ($request)(request)
            }

            #[endpoint(name = "attack")]
            fn in_endpoint(request: &mut stile_sdk::Request) -> Result<stile_sdk::Action, String> {
                ($request)(request)
            }

            #[post(name = "attack")]
            fn in_post(request: &mut stile_sdk::Request) -> Result<stile_sdk::Action, String> {
                ($request)(request)
            }

            #[response(name = "attack")]
            fn in_response(response: &mut stile_sdk::Response) -> impl stile_sdk::IntoDone {
                ($response)(response)
            }

            #[analytics(name = "attack")]
            fn in_analytics(record: &mut stile_sdk::Record) -> impl stile_sdk::IntoVerdict {
                ($record)(record)
            }
        }
    };
}
