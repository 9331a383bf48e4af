//! What ECS does by itself as time goes on: tasks that start and stop, rolling updates, the circuit breaker.

use super::{CANARY, Dep, HEALTHY_AFTER, RUNNING_AFTER, STABLE, STOPPED_AFTER, Task, World};
use crate::moment::Moment;

impl World {
    /// What has happened until now.
    pub(super) fn tick(&mut self) {
        let now = self.now();
        for task in &mut self.tasks {
            if task.stopped.is_none() && task.stopping.is_some_and(|at| now.since(at) >= STOPPED_AFTER) {
                task.stopped = Some((
                    "ServiceSchedulerInitiated",
                    "Scaling activity initiated by deployment".to_owned(),
                ));
            }
        }
        for name in [STABLE, CANARY] {
            self.fail(name, now);
            self.reconcile(name, now);
        }
    }

    /// Tasks that do not start, and the circuit breaker.
    fn fail(&mut self, name: &str, now: Moment) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let primary = &mut service.deployments[0];
        for task in &mut self.tasks {
            let bad = self
                .never_start
                .contains(&(name.to_owned(), task.release.clone()));
            if bad
                && task.service == name
                && task.stopping.is_none()
                && now.since(task.created) >= RUNNING_AFTER
            {
                task.stopping = Some(now);
                task.stopped = Some((
                    "TaskFailedToStart",
                    "CannotPullContainerError: no such image".to_owned(),
                ));
                primary.failed += u32::from(task.task_definition == primary.task_definition);
            }
        }
        if primary.failed < 3 || primary.state == "FAILED" {
            return;
        }
        primary.state = "FAILED";
        primary.reason = "ECS deployment circuit breaker: tasks failed to start.".to_owned();
        let last = service
            .deployments
            .iter()
            .skip(1)
            .find(|before| before.state == "COMPLETED")
            .cloned();
        if let (true, Some(last)) = (service.rollback, last) {
            service.task_definition.clone_from(&last.task_definition);
            service.deployments.retain(|before| before.id != last.id);
            service.deployments.insert(
                0,
                Dep {
                    state: "IN_PROGRESS",
                    ..last
                },
            );
        }
    }

    fn reconcile(&mut self, name: &str, now: Moment) {
        let Some(service) = self.services.get(name).cloned() else {
            return;
        };
        let primary = &service.deployments[0];
        let live = |task: &Task| task.service == name && task.stopping.is_none();
        let new = |task: &Task| live(task) && task.task_definition == primary.task_definition;
        let count = self.tasks.iter().filter(|task| new(task)).count();
        let wanted = service.desired as usize;
        if primary.state != "FAILED" {
            for _ in count..wanted {
                let release = self.release(&primary.task_definition);
                let arn = format!(
                    "arn:aws:ecs:us-east-1:111122223333:task/orders/{:032x}",
                    self.id()
                );
                self.tasks.push(Task {
                    arn,
                    service: name.to_owned(),
                    protected: self.protects.contains(&release),
                    release,
                    task_definition: primary.task_definition.clone(),
                    created: now,
                    stopping: None,
                    stopped: None,
                });
            }
        }
        let healthy = self
            .tasks
            .iter()
            .filter(|task| new(task) && now.since(task.created) >= HEALTHY_AFTER)
            .count();
        let old_may_stay = if service.rollback {
            wanted.saturating_sub(healthy)
        } else {
            0
        };
        let (mut old_kept, mut new_kept) = (0, 0);
        for task in self.tasks.iter_mut().filter(|task| live(task)) {
            let (kept, may) = if task.task_definition == primary.task_definition {
                (&mut new_kept, wanted)
            } else {
                (&mut old_kept, old_may_stay)
            };
            if *kept < may || task.protected {
                *kept += 1;
            } else {
                task.stopping = Some(now);
            }
        }
        let whole = healthy >= wanted && old_kept == 0;
        if let Some(service) = self
            .services
            .get_mut(name)
            .filter(|_| whole && primary.state != "FAILED")
        {
            service.deployments.truncate(1);
            service.deployments[0].state = "COMPLETED";
        }
    }
}
