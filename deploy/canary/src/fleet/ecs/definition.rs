//! Task definitions as JSON, as ECS describes them and takes them: a new release's is made of the one that stable runs.
//!
//! Everything is kept that is not named here, also what a later ECS adds: a field that got lost on the way would be a setting
//! that nobody has changed.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use worker::release::Release;

/// The variable that says which release a worker is.
pub(super) const RELEASE: &str = "WORKER__RELEASE";

/// What ECS adds when it describes a task definition, and does not take back.
const DESCRIBED: [&str; 8] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
];

/// A task definition, and which of its containers is the worker.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Definition {
    json: Value,
    container: usize,
}

impl Definition {
    /// Reads what ECS describes, or the input of `RegisterTaskDefinition`. The worker is the container called `name`, or the only one.
    pub(super) fn read(json: Value, name: &str) -> Result<Self, String> {
        let family = json["family"].as_str().unwrap_or("without family");
        let containers = json["containerDefinitions"].as_array();
        let containers = containers.ok_or_else(|| {
            format!("the task definition {family} has no containerDefinitions; expected a list of containers")
        })?;
        let names: Vec<&str> = containers
            .iter()
            .map(|container| container["name"].as_str().unwrap_or("?"))
            .collect();
        let container = match (names.iter().position(|found| *found == name), names.len()) {
            (Some(index), _) => index,
            (None, 1) => 0,
            (None, _) => {
                return Err(format!(
                    "the task definition {family} has the containers {}; expected one called {name:?}, the worker",
                    names.join(", ")
                ));
            }
        };
        Ok(Self { json, container })
    }

    fn worker(&self) -> &Value {
        &self.json["containerDefinitions"][self.container]
    }

    pub(super) fn arn(&self) -> &str {
        self.json["taskDefinitionArn"].as_str().unwrap_or_default()
    }

    pub(super) fn is_active(&self) -> bool {
        self.json["status"]
            .as_str()
            .is_none_or(|status| status == "ACTIVE")
    }

    pub(super) fn image(&self) -> &str {
        self.worker()["image"].as_str().unwrap_or_default()
    }

    /// vCPUs of a task: ECS has them as units of which 1,024 make one, or takes them as `.25 vCPU`.
    pub(super) fn vcpus(&self) -> Option<f64> {
        let cpu = self.json["cpu"].as_str()?.to_ascii_lowercase();
        match cpu.strip_suffix("vcpu") {
            Some(whole) => whole.trim().parse().ok(),
            None => cpu.trim().parse().ok().map(|units: f64| units / 1024.0),
        }
    }

    pub(super) fn has_health_check(&self) -> bool {
        self.worker()["healthCheck"].is_object()
    }

    /// The worker's plain variables. Those from secrets are not among them.
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        let pairs = self.worker()["environment"].as_array().into_iter().flatten();
        pairs
            .filter_map(|pair| {
                Some((
                    pair["name"].as_str()?.to_owned(),
                    pair["value"].as_str().unwrap_or_default().to_owned(),
                ))
            })
            .collect()
    }

    /// The release it says it is.
    pub(super) fn release(&self) -> Result<Release, String> {
        let environment = self.environment();
        let named = environment.get(RELEASE).filter(|name| !name.is_empty());
        let name = named.ok_or_else(|| {
            format!(
                "{} does not say which release it is; expected the variable {RELEASE} in the container {}",
                self.name(),
                self.worker()["name"].as_str().unwrap_or("?")
            )
        })?;
        Release::new(name).map_err(|error| format!("{}: {RELEASE}: {error}", self.name()))
    }

    /// `family:revision`, or the family where it is not registered yet.
    pub(super) fn name(&self) -> String {
        match self.arn().rsplit('/').next() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => self.json["family"].as_str().unwrap_or("?").to_owned(),
        }
    }

    /// The input of `RegisterTaskDefinition` for `release`: this one with that image, that release and the variables of `set`.
    pub(super) fn of_release(
        &self,
        release: &Release,
        image: &str,
        set: &BTreeMap<String, String>,
    ) -> Result<Value, String> {
        if !is_pinned(image) {
            return Err(format!(
                "the image {image:?} is not named by its digest; expected REPOSITORY@sha256:DIGEST: a tag may be another image by the time a task starts"
            ));
        }
        let secrets = self.worker()["secrets"].as_array().into_iter().flatten();
        let secret = |name: &str| secrets.clone().any(|secret| secret["name"] == name);
        if let Some(name) = set.keys().find(|name| secret(name)) {
            return Err(format!(
                "{name} comes from a secret in {}; expected to set another variable, or to change the task definition",
                self.name()
            ));
        }
        let mut environment = self.environment();
        environment.extend(set.clone());
        environment.insert(RELEASE.to_owned(), release.to_string());
        // The track comes from the service, so that what was tested as canary is what is promoted.
        environment.remove("WORKER__TRACK");
        environment.remove("WORKER__SERVICE");
        let pairs: Vec<Value> = environment
            .into_iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let mut input = self.json.clone();
        input["containerDefinitions"][self.container]["image"] = json!(image);
        input["containerDefinitions"][self.container]["environment"] = json!(pairs);
        if let Some(fields) = input.as_object_mut() {
            for field in DESCRIBED {
                fields.remove(field);
            }
        }
        Ok(input)
    }
}

/// Whether an image is named by its digest.
pub(super) fn is_pinned(image: &str) -> bool {
    image.split_once("@sha256:").is_some_and(|(name, digest)| {
        let hexadecimal = digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        !name.is_empty() && digest.len() == 64 && hexadecimal
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Value {
        serde_json::from_str(include_str!("../../../../task-definitions/worker.json")).unwrap()
    }

    fn image(digit: char) -> String {
        format!(
            "111122223333.dkr.ecr.us-east-1.amazonaws.com/orders-worker@sha256:{}",
            digit.to_string().repeat(64)
        )
    }

    #[test]
    fn a_release_is_the_same_task_definition_with_another_image_and_name() {
        let mut described = example();
        for (field, value) in [
            (
                "taskDefinitionArn",
                json!("arn:aws:ecs:us-east-1:1:task-definition/orders-worker:7"),
            ),
            ("revision", json!(7)),
            ("status", json!("ACTIVE")),
            ("registeredAt", json!(1.7e9)),
            ("enableSomethingNew", json!({"deep": [1, 2]})),
        ] {
            described[field] = value;
        }
        let before = Definition::read(described, "worker").unwrap();
        assert_eq!(before.release().unwrap().as_str(), "1.0.0");
        assert_eq!(before.name(), "orders-worker:7");
        let set = BTreeMap::from([("WORKER__CONCURRENCY".to_owned(), "7".to_owned())]);
        let release = Release::new("1.1.0").unwrap();
        let input = before.of_release(&release, &image('a'), &set).unwrap();
        let after = Definition::read(input.clone(), "worker").unwrap();
        assert_eq!(after.release().unwrap(), release);
        assert_eq!(after.image(), image('a'));
        assert_eq!(after.environment()["WORKER__CONCURRENCY"], "7");
        let mut same = input;
        let mut original = example();
        original["enableSomethingNew"] = json!({"deep": [1, 2]});
        for json in [&mut same, &mut original] {
            json["containerDefinitions"][0]["image"] = json!("");
            json["containerDefinitions"][0]["environment"] = json!([]);
        }
        assert_eq!(
            same, original,
            "nothing else was changed, and nothing that ECS does not take is left"
        );
    }

    #[test]
    fn what_cannot_be_a_release_is_named() {
        let definition = Definition::read(example(), "worker").unwrap();
        let (release, none) = (Release::new("2").unwrap(), BTreeMap::new());
        for image in ["orders-worker:latest", "orders-worker@sha256:12", "@sha256:"] {
            let error = definition.of_release(&release, image, &none).unwrap_err();
            assert!(
                error.contains(image) && error.contains("@sha256:DIGEST"),
                "{error}"
            );
        }
        let mut secret = example();
        secret["containerDefinitions"][0]["secrets"] = json!([{"name": "TOKEN", "valueFrom": "arn"}]);
        let secret = Definition::read(secret, "worker").unwrap();
        let set = BTreeMap::from([("TOKEN".to_owned(), "1".to_owned())]);
        let error = secret.of_release(&release, &image('b'), &set).unwrap_err();
        assert!(error.contains("TOKEN"), "{error}");
        let mut two = example();
        two["containerDefinitions"] = json!([{"name": "app"}, {"name": "proxy"}]);
        assert!(
            Definition::read(two, "worker")
                .unwrap_err()
                .contains("app, proxy")
        );
        let mut nameless = example();
        nameless["containerDefinitions"][0]["environment"] = json!([]);
        let nameless = Definition::read(nameless, "worker").unwrap();
        assert!(nameless.release().unwrap_err().contains(RELEASE));
        assert!(Definition::read(json!({"family": "x"}), "worker").is_err());
    }
}
