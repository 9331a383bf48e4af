//! Where the control document comes from.

use std::future::Future;
use std::io;
use std::path::PathBuf;

use super::document::MAX_BYTES;

/// A place that holds one control document.
pub trait Source: Send + Sync + 'static {
    /// The document's text; `None` where there is none. One try with a timeout of its own, without retries; cancel safe.
    fn read(&self) -> impl Future<Output = Result<Option<String>, ReadError>> + Send;
}

/// Why a source could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It asks to be asked less often.
    #[error("throttled: {0}")]
    Throttled(String),
    /// It failed, or does not let itself be read.
    #[error("{0}")]
    Failed(String),
}

/// A file. It is to be replaced by rename, so that a reader never sees half of it.
#[derive(Clone, Debug)]
pub struct File(pub PathBuf);

impl Source for File {
    async fn read(&self) -> Result<Option<String>, ReadError> {
        let path = self.0.clone();
        // A file of a few hundred bytes; but it may lie on a file system that hangs, which must not hold up a worker thread.
        let read = tokio::task::spawn_blocking(move || read_bounded(&path)).await;
        match read {
            Ok(Ok(text)) => Ok(Some(text)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Ok(Err(error)) => Err(ReadError::Failed(format!("{}: {error}", self.0.display()))),
            Err(error) => Err(ReadError::Failed(format!("{}: {error}", self.0.display()))),
        }
    }
}

fn read_bounded(path: &std::path::Path) -> io::Result<String> {
    use io::Read;
    let mut text = String::new();
    // One byte more than is allowed: the document's own check then says that it is too long.
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(path)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}

/// Where the control document is: the setting `control.source`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locator {
    /// `file:/path`, or the path alone.
    File(PathBuf),
    /// `ssm:/name`
    Parameter(String),
}

impl std::str::FromStr for Locator {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let path = text.strip_prefix("file:").unwrap_or(text);
        match text.strip_prefix("ssm:") {
            Some(name) if name.is_empty() || name.contains(char::is_whitespace) => Err(()),
            Some(name) if cfg!(feature = "ssm") => Ok(Self::Parameter(name.to_owned())),
            Some(_) => Err(()),
            None if path.starts_with(['/', '.']) => Ok(Self::File(path.into())),
            None => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_by_their_prefix_and_anything_else_is_refused() {
        let file = |path: &str| Ok(Locator::File(path.into()));
        assert_eq!("file:/run/control.json".parse(), file("/run/control.json"));
        assert_eq!("./control.json".parse(), file("./control.json"));
        let parameter = "ssm:/orders/control".parse::<Locator>();
        assert_eq!(parameter.is_ok(), cfg!(feature = "ssm"));
        for text in ["", "ssm:", "ssm:a b", "file:", "s3://bucket/key", "control"] {
            assert_eq!(text.parse::<Locator>(), Err(()), "{text}");
        }
    }

    #[tokio::test]
    async fn a_file_is_read_a_missing_one_is_none_and_another_kind_of_thing_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = File(directory.path().join("control.json"));
        assert_eq!(file.read().await, Ok(None));
        std::fs::write(&file.0, "{}").unwrap();
        assert_eq!(file.read().await, Ok(Some("{}".to_owned())));
        let error = File(directory.path().to_owned())
            .read()
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(&directory.path().display().to_string()), "{error}");
    }
}
