//! The messages: orders of about 300 bytes.

/// The body of order number `n`.
pub(crate) fn body(n: usize) -> String {
    let item = |line: usize| {
        let sku = 10_000 + (n * 7 + line * 31) % 90_000;
        let quantity = 1 + (n + line) % 4;
        let price = 499 + (n * 13 + line * 101) % 20_000;
        format!(r#"{{"sku":"SKU-{sku}","quantity":{quantity},"unit_price_cents":{price}}}"#)
    };
    format!(
        r#"{{"order_id":"o-{n:08}","customer":"customer-{:06}","currency":"EUR","items":[{},{},{}],"placed_at":"2026-03-01T12:{:02}:{:02}Z","channel":"web"}}"#,
        n % 50_000,
        item(0),
        item(1),
        item(2),
        n / 60 % 60,
        n % 60,
    )
}
