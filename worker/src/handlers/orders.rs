//! The sample workload: parses, validates and totals an order, with faults that can be switched on.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::sleep;

use crate::handler::{Context, JsonHandler, Outcome, Reason};
use crate::message::Message;

/// Too many, too few, or in a currency nobody has.
const INVALID_ORDER: Reason = Reason::new("invalid_order");
/// The message carries the fault `reject`, or the release has it.
const FAULT: Reason = Reason::new("fault");

/// An order, as the body of a message. Unknown fields are ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct Order {
    /// The order's id.
    pub order_id: String,
    /// Who ordered.
    pub customer: String,
    /// Three capital letters (ISO 4217).
    pub currency: String,
    /// What was ordered; at least one.
    pub items: Vec<Item>,
    /// What goes wrong with this message, whatever the release.
    #[serde(default)]
    pub fault: Option<Fault>,
}

/// A line of an [`Order`].
#[derive(Clone, Debug, Deserialize)]
pub struct Item {
    /// The article.
    pub sku: String,
    /// How many; at least one.
    pub quantity: u32,
    /// The price of one, in hundredths of the currency.
    pub unit_price_cents: u64,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The first attempt asks for another one, as a transient failure does.
    Retry,
    /// Every attempt rejects the message.
    Reject,
    /// Takes [`Faults::slow_latency`] longer.
    Slow,
    /// Never ends by itself.
    Hang,
    /// Panics.
    Panic,
    /// Kills the process.
    Crash,
    /// The first attempt says that a dependency is down.
    Unavailable,
}

/// The faults of a release, as shares of all attempts, and how long an order takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Of every order.
    pub latency: Duration,
    /// On top, of slow ones.
    pub slow_latency: Duration,
    /// See [`Fault::Retry`]; likewise below.
    pub retry: f64,
    /// Rejected.
    pub reject: f64,
    /// Slow.
    pub slow: f64,
    /// Hanging.
    pub hang: f64,
    /// Panicking.
    pub panic: f64,
    /// Crashing.
    pub crash: f64,
    /// A dependency down.
    pub unavailable: f64,
}

impl Faults {
    /// The fault that the number `draw`, from 0 to 1, falls on.
    fn drawn(&self, draw: f64) -> Option<Fault> {
        let shares = [
            (Fault::Retry, self.retry),
            (Fault::Reject, self.reject),
            (Fault::Slow, self.slow),
            (Fault::Hang, self.hang),
            (Fault::Panic, self.panic),
            (Fault::Crash, self.crash),
            (Fault::Unavailable, self.unavailable),
        ];
        let mut end = 0.0;
        shares.into_iter().find_map(|(fault, share)| {
            end += share;
            (draw < end).then_some(fault)
        })
    }
}

/// Totals orders.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    faults: Faults,
}

impl Orders {
    /// A release with these faults.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        Self { faults }
    }
}

impl JsonHandler for Orders {
    type Body = Order;

    async fn handle(&self, order: Order, _message: &Message, context: &Context) -> Outcome {
        // No latency is no sleep: the timer is a millisecond late.
        if !self.faults.latency.is_zero() {
            sleep(self.faults.latency).await;
        }
        // The message's own fault is there whatever the release; transient ones are gone at the second attempt.
        let own = order
            .fault
            .filter(|fault| context.attempt() == 1 || !matches!(fault, Fault::Retry | Fault::Unavailable));
        match own.or_else(|| self.faults.drawn(fastrand::f64())) {
            Some(Fault::Retry) => return Outcome::retry("a fault that was switched on"),
            Some(Fault::Reject) => return Outcome::reject(FAULT, "a fault that was switched on"),
            Some(Fault::Unavailable) => return Outcome::unavailable("a fault that was switched on"),
            Some(Fault::Hang) => return std::future::pending().await,
            #[expect(clippy::panic, reason = "the fault that was asked for")]
            Some(Fault::Panic) => panic!("a fault that was switched on"),
            Some(Fault::Crash) => std::process::abort(),
            Some(Fault::Slow) => sleep(self.faults.slow_latency).await,
            None => {}
        }
        match total(&order) {
            Ok(total_cents) => {
                tracing::debug!(
                    order_id = order.order_id,
                    customer = order.customer,
                    total_cents,
                    "order totalled"
                );
                Outcome::Done
            }
            Err(error) => Outcome::reject(INVALID_ORDER, error),
        }
    }

    fn reasons(&self) -> &[Reason] {
        &[INVALID_ORDER, FAULT]
    }
}

/// The order's total in hundredths of its currency.
///
/// # Errors
/// Which field is wrong, what it is, and what is expected.
pub fn total(order: &Order) -> Result<u64, String> {
    if order.order_id.is_empty() {
        return Err("order_id is empty; expected an id".to_owned());
    }
    if order.currency.len() != 3 || !order.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        let currency: String = order.currency.chars().take(16).collect();
        return Err(format!(
            "currency is {currency:?}; expected three capital letters"
        ));
    }
    if order.items.is_empty() {
        return Err("items is empty; expected at least one".to_owned());
    }
    order
        .items
        .iter()
        .enumerate()
        .try_fold(0_u64, |sum, (index, item)| {
            if item.quantity == 0 {
                return Err(format!("items[{index}].quantity is 0; expected at least 1"));
            }
            u64::from(item.quantity)
                .checked_mul(item.unit_price_cents)
                .and_then(|line| sum.checked_add(line))
                .ok_or_else(|| {
                    format!(
                        "items[{index}].unit_price_cents is {}; the total overflows",
                        item.unit_price_cents
                    )
                })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(json: &str) -> Order {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_documented_order_has_its_total() {
        let order = order(
            r#"{"order_id":"o-1","customer":"c","currency":"EUR","new_field":1,
                "items":[{"sku":"s","quantity":2,"unit_price_cents":1999}],"fault":"reject"}"#,
        );
        assert_eq!(total(&order), Ok(3998));
        assert_eq!(order.fault, Some(Fault::Reject));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let with = |id: &str, currency: &str, items: &str| {
            total(&order(&format!(
                r#"{{"order_id":"{id}","customer":"c","currency":"{currency}","items":[{items}]}}"#
            )))
            .unwrap_err()
        };
        let item = r#"{"sku":"s","quantity":1,"unit_price_cents":1}"#;
        let many = r#"{"sku":"s","quantity":4294967295,"unit_price_cents":18446744073709551615}"#;
        assert!(with("", "EUR", item).starts_with("order_id"));
        assert!(with("o", "euro", item).starts_with("currency is \"euro\""));
        assert!(with("o", "EUR", "").starts_with("items is empty"));
        assert!(
            with("o", "EUR", r#"{"sku":"s","quantity":0,"unit_price_cents":1}"#)
                .starts_with("items[0].quantity")
        );
        assert!(with("o", "EUR", many).contains("overflows"));
    }

    #[test]
    fn faults_fall_by_their_shares() {
        let faults = Faults {
            reject: 0.2,
            panic: 0.1,
            ..Faults::default()
        };
        assert_eq!(faults.drawn(0.0), Some(Fault::Reject));
        assert_eq!(faults.drawn(0.25), Some(Fault::Panic));
        assert_eq!(faults.drawn(0.31), None);
        assert_eq!(Faults::default().drawn(0.0), None);
    }
}
