//! The native client against a gateway that the test plays by hand, frame by frame, over loopback.

#[path = "client/gateway.rs"]
mod gateway;
#[cfg(feature = "sqlite")]
#[path = "client/keeping.rs"]
mod keeping;
#[path = "client/lifecycle.rs"]
mod lifecycle;
#[path = "client/publishing.rs"]
mod publishing;
#[path = "client/slow.rs"]
mod slow;
#[path = "client/subscribing.rs"]
mod subscribing;
#[path = "client/tls.rs"]
mod tls;
#[path = "client/tokens.rs"]
mod tokens;
