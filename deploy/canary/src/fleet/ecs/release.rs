//! From an image to a revision of the task definition.

use std::collections::BTreeMap;

use worker::release::Release;

use super::Ecs;
use super::definition::Definition;
use crate::journal::Journal;
use crate::rollout::{Definition as Runs, Revision};

/// What a release is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An image, `REPOSITORY@sha256:DIGEST`, in the task definition that stable runs, with these variables on top.
    Image(String, BTreeMap<String, String>),
    /// A revision of the task definition that is registered already, by its ARN or `FAMILY:REVISION`.
    TaskDefinition(String),
}

impl Ecs {
    /// The revision of `release`: that of the rollout under way if it is of the same release and origin, else a new one.
    ///
    /// A new one is registered, which nothing runs yet.
    ///
    /// # Errors
    /// When it cannot be made of what stable runs, when another configuration of the release is under way, or AWS refuses.
    pub async fn revision(
        &self,
        release: &Release,
        origin: &Origin,
        under_way: Option<&Journal>,
    ) -> Result<Revision, String> {
        let under_way = under_way
            .map(|journal| &journal.state)
            .filter(|state| state.outcome().is_none() && state.candidate.release == *release);
        if let Some(state) = under_way {
            let same = match (&state.candidate.definition, origin) {
                (Runs::Ecs { image, set, .. }, Origin::Image(wanted, variables)) => {
                    image == wanted && set == variables
                }
                (Runs::Ecs { task_definition, .. }, Origin::TaskDefinition(wanted)) => {
                    task_definition == wanted || task_definition.rsplit('/').next() == Some(wanted)
                }
                (Runs::Local { .. }, _) => false,
            };
            return if same {
                Ok(state.candidate.clone())
            } else {
                Err(format!(
                    "a rollout of {release} with another image, task definition or other variables is under way: one release is one \
                     configuration. `canary abort` ends it, or give what differs another release name"
                ))
            };
        }
        let (definition, image, set) = match origin {
            Origin::TaskDefinition(name) => {
                let definition = self.definition(name).await?;
                let image = definition.image().to_owned();
                (definition, image, BTreeMap::new())
            }
            Origin::Image(image, set) => {
                let input = self.pattern().await?.of_release(release, image, set)?;
                let arn = self.cluster.register(&input).await?;
                (self.definition(&arn).await?, image.clone(), set.clone())
            }
        };
        let named = definition.release()?;
        if named != *release {
            return Err(format!(
                "{} is release {named}; expected {release}",
                definition.name()
            ));
        }
        Ok(Revision {
            release: named,
            definition: Runs::Ecs {
                task_definition: definition.arn().to_owned(),
                image,
                set,
                environment: definition.environment(),
            },
        })
    }

    /// What a new release is made of: what stable runs; before the first release the file of the settings, if there is one.
    async fn pattern(&self) -> Result<Definition, String> {
        if let (None, Some(first)) = (self.parameters.stable().await?, &self.options.first) {
            return Definition::read(first.clone(), &self.options.container);
        }
        let states = self.states().await?;
        self.definition(&states[&super::Service::Stable].task_definition)
            .await
    }
}
