//! Ready-made handlers.

pub mod http;
pub mod orders;

use self::http::Http;
use self::orders::Orders;
use crate::config::{HandlerKind, Settings};
use crate::handler::{Context, Handler, Json, Outcome, Reason};
use crate::message::Message;

/// The handler that the settings name.
#[derive(Clone, Debug)]
pub enum ReadyMade {
    /// `orders`: the sample workload.
    Orders(Json<Orders>),
    /// `http`: the application beside the worker.
    Http(Box<Http>),
}

impl ReadyMade {
    /// The handler that `settings` name.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        match settings.handler.kind {
            HandlerKind::Orders => Self::Orders(Json(Orders::new(settings.orders))),
            HandlerKind::Http => Self::Http(Box::new(Http::new(settings.http.clone()))),
        }
    }
}

impl Handler for ReadyMade {
    async fn handle(&self, message: &Message, context: &Context) -> Outcome {
        match self {
            Self::Orders(handler) => handler.handle(message, context).await,
            Self::Http(handler) => handler.handle(message, context).await,
        }
    }

    fn reasons(&self) -> &[Reason] {
        match self {
            Self::Orders(handler) => handler.reasons(),
            Self::Http(handler) => handler.reasons(),
        }
    }

    async fn ready(&self) {
        match self {
            Self::Orders(handler) => handler.ready().await,
            Self::Http(handler) => handler.ready().await,
        }
    }
}

#[cfg(test)]
mod tests {
    /// `docs/handlers.md` and the README say so. CI compiles it.
    #[test]
    fn the_smallest_handler_is_a_whole_worker_in_20_lines() {
        let example = include_str!("../examples/smallest.rs");
        assert!(example.lines().count() <= 20 && example.contains("worker::cli::main"));
    }
}
