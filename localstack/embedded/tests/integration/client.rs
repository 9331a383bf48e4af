//! A bare HTTP client: what the SDKs hide is what is tested.

use bytes::Bytes;
use embedded_sqs::server::{Server, ServerConfig};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
}

pub(crate) async fn start() -> Server {
    Server::start(ServerConfig::default()).await.unwrap()
}

impl Client {
    pub(crate) async fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address()).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    pub(crate) async fn raw(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Bytes>> {
        let (parts, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
    }

    pub(crate) async fn act(
        &mut self,
        action: &str,
        body: impl Into<Bytes>,
    ) -> hyper::Result<Response<Bytes>> {
        let request = Request::post("/")
            .header("host", "localhost")
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("AmazonSQS.{action}"))
            .body(Full::new(body.into()));
        self.raw(request.unwrap()).await
    }

    /// An action that must succeed.
    pub(crate) async fn call(&mut self, action: &str, body: Value) -> Value {
        let answer = self.act(action, body.to_string()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{action}: {:?}", answer.body());
        if answer.body().is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(answer.body()).unwrap()
        }
    }

    pub(crate) async fn queue(&mut self, attributes: Value) -> String {
        let queue = self
            .call("CreateQueue", json!({"QueueName": "q", "Attributes": attributes}))
            .await;
        queue["QueueUrl"].as_str().unwrap().to_owned()
    }

    /// The bodies that a receive gives.
    pub(crate) async fn receive(&mut self, url: &str, wait: u32) -> Vec<String> {
        let request = json!({"QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": wait});
        let answer = self.call("ReceiveMessage", request).await;
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        messages
            .iter()
            .map(|message| message["Body"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) async fn send(&mut self, url: &str, body: &str) {
        self.call("SendMessage", json!({"QueueUrl": url, "MessageBody": body}))
            .await;
    }
}
