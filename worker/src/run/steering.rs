//! Where the process is steered from: the control document of the settings.

use aws_config::SdkConfig;

use crate::control::reader::{Directives, Reader};
use crate::control::source::{File, Locator, ReadError, Source};
use crate::release::Track;

/// A source of either kind.
#[derive(Debug)]
pub(super) enum Place {
    File(File),
    #[cfg(feature = "ssm")]
    Parameter(crate::control::ssm::Parameter),
}

impl Source for Place {
    async fn read(&self) -> Result<Option<String>, ReadError> {
        match self {
            Self::File(file) => file.read().await,
            #[cfg(feature = "ssm")]
            Self::Parameter(parameter) => parameter.read().await,
        }
    }
}

/// A reader of what `settings` name, if they name anything, and what it says.
pub(super) fn reader(
    settings: &crate::config::ControlSettings,
    track: Track,
    config: &SdkConfig,
) -> (Option<Reader<Place>>, Directives) {
    let place = match &settings.source {
        None => return (None, Directives::none()),
        Some(Locator::File(path)) => Place::File(File(path.clone())),
        #[cfg(feature = "ssm")]
        Some(Locator::Parameter(name)) => Place::Parameter(crate::control::ssm::Parameter::new(config, name)),
        // Without the feature no setting is read as a parameter.
        #[cfg(not(feature = "ssm"))]
        Some(Locator::Parameter(name)) => {
            let _ = config;
            Place::File(File(name.into()))
        }
    };
    let (reader, directives) = Reader::new(place, track, settings.interval, fastrand::Rng::new());
    (Some(reader), directives)
}
