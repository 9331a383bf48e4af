//! Dead letters on the real wire: the embedded endpoint in this process, the SDK's adapter, the real binary; and LocalStack.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy knows only functions marked as tests"
)]

mod bounds;
mod fifo;
mod killed;
mod localstack;
mod odd;
mod selection;
mod world;
