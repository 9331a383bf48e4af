//! A proxy that notes when something is first said.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};

/// A proxy before an endpoint. Its threads end with the connections; the listening one with this process.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Where it listens.
    pub(crate) url: String,
    heard: UnboundedReceiver<Instant>,
}

impl Watch {
    /// Listens for `word` in what clients send to `endpoint`.
    pub(crate) fn start(endpoint: &str, word: &'static str) -> Result<Self> {
        let target: SocketAddr = endpoint.trim_start_matches("http://").parse()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}", listener.local_addr()?);
        let (sender, heard) = unbounded_channel();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(target) else {
                    return;
                };
                pass(client, server, word, &sender);
            }
        });
        Ok(Self { url, heard })
    }

    /// When the word was first heard; an error after ten seconds.
    pub(crate) async fn first(&mut self) -> Result<Instant> {
        let heard = timeout(Duration::from_secs(10), self.heard.recv()).await?;
        heard.ok_or_else(|| anyhow::anyhow!("the proxy ended"))
    }
}

fn pass(client: TcpStream, server: TcpStream, word: &'static str, heard: &UnboundedSender<Instant>) {
    let heard = heard.clone();
    // A connection that cannot be passed on is closed, which its client sees.
    let (Ok(back_from), Ok(back_to)) = (server.try_clone(), client.try_clone()) else {
        return;
    };
    std::thread::spawn(move || {
        copy(client, server, |bytes| {
            if bytes.windows(word.len()).any(|part| part == word.as_bytes()) {
                // Whoever listened has heard enough.
                let _ = heard.send(Instant::now());
            }
        });
    });
    std::thread::spawn(move || copy(back_from, back_to, |_| ()));
}

fn copy(mut from: TcpStream, mut to: TcpStream, look: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    let _ = to.set_nodelay(true);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        look(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
