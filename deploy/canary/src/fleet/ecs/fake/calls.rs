//! The calls of ECS: what each changes and answers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Dep, HEALTHY_AFTER, RUNNING_AFTER, Task, World, number};

impl World {
    fn service(&self, name: &str) -> Value {
        let service = &self.services[name];
        let deployments: Vec<Value> = service
            .deployments
            .iter()
            .enumerate()
            .map(|(index, deployment)| {
                json!({"id": deployment.id, "status": if index == 0 { "PRIMARY" } else { "ACTIVE" },
                       "taskDefinition": deployment.task_definition, "failedTasks": deployment.failed,
                       "rolloutState": deployment.state, "rolloutStateReason": deployment.reason,
                       "desiredCount": service.desired, "runningCount": 0, "pendingCount": 0})
            })
            .collect();
        json!({"serviceName": name, "status": "ACTIVE", "desiredCount": service.desired, "runningCount": 0, "pendingCount": 0,
               "taskDefinition": service.task_definition, "deployments": deployments, "events": [],
               "launchType": "FARGATE", "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-a", "subnet-b"]}},
               "deploymentConfiguration": {"maximumPercent": 200, "minimumHealthyPercent": 100}})
    }

    fn lagging(&self, name: &str) -> Value {
        let now = self.now();
        let mut before = self.services[name].before.iter();
        before
            .find(|(changed, _)| now.since(*changed) < self.lag)
            .map_or_else(|| self.service(name), |(_, before)| before.clone())
    }

    fn update_service(&mut self, input: &Value) -> Value {
        let (now, id) = (self.now(), self.id());
        let name = input["service"].as_str().unwrap().to_owned();
        let before = self.service(&name);
        let release = input["taskDefinition"].as_str().map(|arn| self.release(arn));
        let service = self.services.get_mut(&name).unwrap();
        service.before.push((now, before));
        if let Some(desired) = input["desiredCount"].as_u64() {
            service.desired = u32::try_from(desired).unwrap();
        }
        if let Some(arn) = input["taskDefinition"]
            .as_str()
            .filter(|arn| **arn != service.task_definition)
        {
            service.task_definition = arn.to_owned();
            service.deployments.insert(
                0,
                Dep {
                    id: format!("ecs-svc/{id}"),
                    task_definition: arn.to_owned(),
                    failed: 0,
                    state: "IN_PROGRESS",
                    reason: String::new(),
                },
            );
        }
        let desired = service.desired;
        self.deeds.push(match release {
            Some(release) => format!("{name} runs {release} × {desired}"),
            None => format!("{name} × {desired}"),
        });
        self.tick();
        json!({"service": self.service(&name)})
    }

    fn describe_task(&self, task: &Task) -> Value {
        let age = self.now().since(task.created);
        let status = match (&task.stopped, task.stopping) {
            (Some(_), _) => "STOPPED",
            (None, Some(_)) => "STOPPING",
            _ if age >= RUNNING_AFTER => "RUNNING",
            _ => "PENDING",
        };
        let healthy = if age >= HEALTHY_AFTER {
            "HEALTHY"
        } else {
            "UNKNOWN"
        };
        let mut described = json!({
            "taskArn": task.arn, "taskDefinitionArn": task.task_definition, "lastStatus": status, "healthStatus": healthy,
            "desiredStatus": if task.stopping.is_some() { "STOPPED" } else { "RUNNING" },
            "createdAt": number(task.created.millis()) / 1000.0, "containers": [{"name": "worker"}]});
        if let Some((code, reason)) = &task.stopped {
            described["stopCode"] = json!(code);
            described["stoppedReason"] = json!(reason);
        }
        described
    }

    /// A page of a hundred; the token is where the next one begins.
    fn list_tasks(&self, input: &Value) -> Value {
        let ends = input["desiredStatus"] == "STOPPED";
        let tasks = self.tasks.iter();
        let listed: Vec<&String> = tasks
            .filter(|task| task.service == input["serviceName"] && task.stopping.is_some() == ends)
            .map(|task| &task.arn)
            .collect();
        let from = input["nextToken"]
            .as_str()
            .map_or(0, |token| token.parse().unwrap());
        let to = listed.len().min(from + 100);
        let mut page = json!({"taskArns": listed[from..to]});
        if to < listed.len() {
            page["nextToken"] = json!(to.to_string());
        }
        page
    }

    fn named<'a>(&'a self, input: &'a Value) -> impl Iterator<Item = &'a Task> {
        let wanted = input["tasks"].as_array().unwrap();
        assert!(wanted.len() <= 100, "ECS takes a hundred at once");
        let wanted: BTreeSet<&str> = wanted.iter().filter_map(Value::as_str).collect();
        self.tasks
            .iter()
            .filter(move |task| wanted.contains(task.arn.as_str()))
    }

    pub(super) fn ecs(&mut self, operation: &str, input: &Value) -> Value {
        match operation {
            "DescribeServices" => {
                let names = input["services"].as_array().unwrap().iter();
                let known = names
                    .filter_map(Value::as_str)
                    .filter(|name| self.services.contains_key(*name));
                json!({"services": known.map(|name| self.lagging(name)).collect::<Vec<_>>(), "failures": []})
            }
            "UpdateService" => self.update_service(input),
            "ListTasks" => self.list_tasks(input),
            "DescribeTasks" => {
                json!({"tasks": self.named(input).map(|task| self.describe_task(task)).collect::<Vec<_>>()})
            }
            "UpdateTaskProtection" => {
                let arns: Vec<String> = self.named(input).map(|task| task.arn.clone()).collect();
                assert!(arns.len() <= 10, "ECS takes ten at once");
                for task in self.tasks.iter_mut().filter(|task| arns.contains(&task.arn)) {
                    task.protected = false;
                }
                json!({"protectedTasks": [], "failures": []})
            }
            "DescribeTaskDefinition" => {
                let described = self.described(input["taskDefinition"].as_str().unwrap()).clone();
                json!({"taskDefinition": described, "tags": [{"key": "app", "value": "orders"}]})
            }
            "RegisterTaskDefinition" => {
                let arn = self.register(input.clone());
                json!({"taskDefinition": self.described(&arn)})
            }
            other => panic!("ECS knows no {other} here"),
        }
    }
}
