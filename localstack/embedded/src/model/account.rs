//! An account: its queues by name, and the actions on them.

mod messages;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::action::{
    CreateQueue, DeleteQueue, GetQueueAttributes, GetQueueUrl, ListDeadLetterSourceQueues,
    ListDeadLetterSourceQueuesOutput, ListQueues, ListQueuesOutput, PurgeQueue, QueueAttributesOutput,
    QueueUrlOutput, SetQueueAttributes,
};
use super::limits::{MAX_LISTED, MAX_QUEUE_NAME, WAITING_PERIOD_SECONDS};
use super::queue::Queue;
use super::settings::{RedriveAllow, Settings};
use super::{Depth, Error, ErrorCode, Result, Timestamp};

/// What an account is called and how much it may hold.
#[derive(Debug, Clone)]
pub struct AccountConfig {
    /// The start of each queue's address, without a slash at the end.
    pub base_url: String,
    /// The region in ARNs.
    pub region: String,
    /// Twelve digits.
    pub account_id: String,
    /// Seeds message ids and receipt handles.
    pub seed: u64,
    /// What queues and messages may take, in bytes; sends beyond it are refused with `OverLimit`.
    pub max_bytes: u64,
    /// Whether a deleted queue's name stays taken for a minute, and a purge may follow another only after a minute.
    pub waiting_periods: bool,
}

impl Default for AccountConfig {
    fn default() -> Self {
        Self {
            base_url: "http://127.0.0.1:9324".into(),
            region: "us-east-1".into(),
            account_id: "000000000000".into(),
            seed: 0,
            max_bytes: 2 << 30,
            waiting_periods: true,
        }
    }
}

/// A queue within its account; never used again, even when a queue of the same name is made later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueKey(pub(super) u32);

/// All queues of one account and region. Time is what the caller says it is; it should not run backwards.
#[derive(Debug)]
pub struct Account {
    config: AccountConfig,
    queues: BTreeMap<Arc<str>, Queue>,
    /// When queues were deleted, for as long as their names are taken.
    deleted: BTreeMap<Arc<str>, Timestamp>,
    next_key: u32,
    random: fastrand::Rng,
    sender: Arc<str>,
    bytes: u64,
    woken: BTreeSet<QueueKey>,
}

impl Account {
    /// An account without queues.
    pub fn new(config: AccountConfig) -> Self {
        Self {
            random: fastrand::Rng::with_seed(config.seed),
            sender: config.account_id.as_str().into(),
            config,
            queues: BTreeMap::new(),
            deleted: BTreeMap::new(),
            next_key: 0,
            bytes: 0,
            woken: BTreeSet::new(),
        }
    }

    /// The queue at this address.
    ///
    /// # Errors
    /// `MissingParameter`, `InvalidAddress` and `QueueDoesNotExist`.
    pub fn key(&self, queue_url: &str) -> Result<QueueKey> {
        self.queue(queue_url).map(|queue| queue.key)
    }

    /// When a receive from this queue can next get a message that it could not get before: `now` when one is there already,
    /// none when only a send can change it.
    ///
    /// # Errors
    /// Those of [`Account::key`].
    pub fn next_visible_at(&mut self, now: Timestamp, queue_url: &str) -> Result<Option<Timestamp>> {
        let queue = self.queue_mut(queue_url)?;
        queue.advance(now);
        Ok(if queue.readable() {
            Some(now)
        } else {
            queue.next_timer()
        })
    }

    /// How many messages a queue holds.
    ///
    /// # Errors
    /// Those of [`Account::key`].
    pub fn depth(&mut self, now: Timestamp, queue_url: &str) -> Result<Depth> {
        let queue = self.queue_mut(queue_url)?;
        queue.advance(now);
        Ok(queue.depth())
    }

    /// The queues that actions since the last call have left with something to receive.
    pub fn take_woken(&mut self) -> BTreeSet<QueueKey> {
        std::mem::take(&mut self.woken)
    }

    /// Memory the account is accounted for, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The address of the queue of this name.
    pub fn url(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.config.base_url, self.config.account_id)
    }

    fn arn(&self, name: &str) -> Arc<str> {
        format!(
            "arn:aws:sqs:{}:{}:{name}",
            self.config.region, self.config.account_id
        )
        .into()
    }

    /// Makes a queue, or gives the address of the one that is there with the same settings.
    ///
    /// # Errors
    /// `MissingParameter`, `InvalidParameterValue`, `InvalidAttributeName`, `InvalidAttributeValue`, `QueueNameExists`,
    /// `QueueDeletedRecently` and `OverLimit`.
    pub fn create_queue(&mut self, now: Timestamp, request: &CreateQueue) -> Result<QueueUrlOutput> {
        let name = request.queue_name.as_str();
        let fifo = request
            .attributes
            .get("FifoQueue")
            .is_some_and(|value| value == "true");
        check_name(name, fifo)?;
        let settings = Settings::new(fifo).with(&request.attributes)?;
        let queue_url = self.url(name);
        if let Some(queue) = self.queues.get(name) {
            let (wanted, existing) = (settings.describe(), queue.settings.describe());
            let named = wanted
                .iter()
                .filter(|(name, _)| request.attributes.contains_key(**name));
            if let Some((name, _)) = named
                .into_iter()
                .find(|(name, value)| existing.get(*name) != Some(value))
            {
                let message = format!(
                    "A queue already exists with the same name and a different value for attribute {name}"
                );
                return Err(Error::new(ErrorCode::QueueNameExists, message));
            }
            return Ok(QueueUrlOutput { queue_url });
        }
        self.deleted
            .retain(|_, at| now < at.plus_seconds(WAITING_PERIOD_SECONDS));
        if self.config.waiting_periods && self.deleted.contains_key(name) {
            let message = "You must wait 60 seconds after deleting a queue before you can create another with the same name.";
            return Err(Error::new(ErrorCode::QueueDeletedRecently, message));
        }
        self.check_redrive(name, &settings)?;
        let queue = Queue::new(QueueKey(self.next_key), self.arn(name), settings, now);
        self.make_room(now, queue.bytes())?;
        self.next_key += 1;
        self.bytes += queue.bytes();
        self.queues.insert(name.into(), queue);
        Ok(QueueUrlOutput { queue_url })
    }

    /// Gives the address of a queue.
    ///
    /// # Errors
    /// `MissingParameter` and `QueueDoesNotExist`.
    pub fn queue_url(&self, request: &GetQueueUrl) -> Result<QueueUrlOutput> {
        if request.queue_name.is_empty() {
            return Err(Error::missing("QueueName"));
        }
        let own = request
            .queue_owner
            .as_ref()
            .is_none_or(|owner| *owner == self.config.account_id);
        if !own || !self.queues.contains_key(request.queue_name.as_str()) {
            return Err(Error::no_queue());
        }
        Ok(QueueUrlOutput {
            queue_url: self.url(&request.queue_name),
        })
    }

    /// Lists queues.
    ///
    /// # Errors
    /// `InvalidParameterValue`.
    pub fn list_queues(&self, request: &ListQueues) -> Result<ListQueuesOutput> {
        let prefix = request.queue_name_prefix.as_deref().unwrap_or_default();
        let names = self.queues.keys().filter(|name| name.starts_with(prefix));
        let (queue_urls, next_token) =
            self.page(names, request.max_results, request.next_token.as_deref())?;
        Ok(ListQueuesOutput {
            queue_urls,
            next_token,
        })
    }

    /// Lists the queues whose redrive policy names this one.
    ///
    /// # Errors
    /// Those of [`Account::key`], and `InvalidParameterValue`.
    pub fn list_dead_letter_source_queues(
        &self,
        request: &ListDeadLetterSourceQueues,
    ) -> Result<ListDeadLetterSourceQueuesOutput> {
        let arn = &self.queue(&request.queue_url)?.arn;
        let sources = self.queues.iter().filter(|(_, queue)| {
            queue
                .settings
                .redrive
                .as_ref()
                .is_some_and(|redrive| redrive.target_arn == *arn)
        });
        let names = sources.map(|(name, _)| name);
        let (queue_urls, next_token) =
            self.page(names, request.max_results, request.next_token.as_deref())?;
        Ok(ListDeadLetterSourceQueuesOutput {
            queue_urls,
            next_token,
        })
    }

    /// One page of a listing. The token is the name of the last queue of the page before.
    fn page<'a>(
        &self,
        names: impl Iterator<Item = &'a Arc<str>>,
        most: Option<i32>,
        token: Option<&str>,
    ) -> Result<(Vec<String>, Option<String>)> {
        let limit = match most.map(usize::try_from) {
            None => MAX_LISTED,
            Some(Ok(limit @ 1..=MAX_LISTED)) => limit,
            Some(_) => {
                let reason = "Value for MaxResults must be between 1 and 1000.";
                return Err(Error::value("MaxResults", most.unwrap_or_default(), reason));
            }
        };
        let mut names = names.filter(|name| token.is_none_or(|token| name.as_ref() > token));
        let page: Vec<&Arc<str>> = names.by_ref().take(limit).collect();
        let more = most.is_some() && names.next().is_some();
        let next = page.last().filter(|_| more).map(|name| name.to_string());
        Ok((page.into_iter().map(|name| self.url(name)).collect(), next))
    }

    /// Gives settings and depth of a queue.
    ///
    /// # Errors
    /// Those of [`Account::key`], and `InvalidAttributeName`.
    pub fn queue_attributes(
        &mut self,
        now: Timestamp,
        request: &GetQueueAttributes,
    ) -> Result<QueueAttributesOutput> {
        const OTHERS: [&str; 5] = [
            "Policy",
            "RedrivePolicy",
            "RedriveAllowPolicy",
            "KmsMasterKeyId",
            "KmsDataKeyReusePeriodSeconds",
        ];
        const FIFO: [&str; 4] = [
            "FifoQueue",
            "ContentBasedDeduplication",
            "DeduplicationScope",
            "FifoThroughputLimit",
        ];
        let queue = self.queue_mut(&request.queue_url)?;
        queue.advance(now);
        let depth = queue.depth();
        let mut attributes = queue.settings.describe();
        attributes.insert("ApproximateNumberOfMessages", depth.visible.to_string());
        attributes.insert(
            "ApproximateNumberOfMessagesNotVisible",
            depth.in_flight.to_string(),
        );
        attributes.insert("ApproximateNumberOfMessagesDelayed", depth.delayed.to_string());
        attributes.insert("CreatedTimestamp", queue.created_at.as_secs().to_string());
        attributes.insert("LastModifiedTimestamp", queue.modified_at.as_secs().to_string());
        attributes.insert("QueueArn", queue.arn.to_string());
        for name in &request.attribute_names {
            let name = name.as_str();
            if name != "All"
                && !attributes.contains_key(name)
                && !OTHERS.contains(&name)
                && !FIFO.contains(&name)
            {
                return Err(Error::new(
                    ErrorCode::InvalidAttributeName,
                    format!("Unknown Attribute {name}."),
                ));
            }
        }
        if !request.attribute_names.iter().any(|name| name == "All") {
            attributes.retain(|name, _| request.attribute_names.iter().any(|asked| asked == name));
        }
        Ok(QueueAttributesOutput { attributes })
    }

    /// Changes settings of a queue.
    ///
    /// # Errors
    /// Those of [`Account::key`], `MissingParameter`, `InvalidAttributeName`, `InvalidAttributeValue` and
    /// `InvalidParameterValue`; nothing is changed then.
    pub fn set_queue_attributes(&mut self, now: Timestamp, request: &SetQueueAttributes) -> Result<()> {
        if request.attributes.is_empty() {
            return Err(Error::missing("Attribute.Name"));
        }
        let name = self.name(&request.queue_url)?.to_owned();
        let settings = self
            .queue(&request.queue_url)?
            .settings
            .with(&request.attributes)?;
        self.check_redrive(&name, &settings)?;
        let queue = self.queue_mut(&request.queue_url)?;
        let before = queue.bytes();
        queue.configure(now, settings);
        let (after, key, readable) = (queue.bytes(), queue.key, queue.readable());
        self.recount(before, after);
        self.wake(key, readable);
        Ok(())
    }

    /// Deletes all messages of a queue, those in flight included.
    ///
    /// # Errors
    /// Those of [`Account::key`], and `PurgeQueueInProgress`.
    pub fn purge_queue(&mut self, now: Timestamp, request: &PurgeQueue) -> Result<()> {
        let waiting_periods = self.config.waiting_periods;
        let queue = self.queue_mut(&request.queue_url)?;
        if waiting_periods
            && queue
                .purged_at
                .is_some_and(|at| now < at.plus_seconds(WAITING_PERIOD_SECONDS))
        {
            let message = "Only one PurgeQueue operation is allowed every 60 seconds.";
            return Err(Error::new(ErrorCode::PurgeQueueInProgress, message));
        }
        let before = queue.bytes();
        queue.purge(now);
        let after = queue.bytes();
        self.recount(before, after);
        Ok(())
    }

    /// Deletes a queue with its messages.
    ///
    /// # Errors
    /// Those of [`Account::key`].
    pub fn delete_queue(&mut self, now: Timestamp, request: &DeleteQueue) -> Result<()> {
        let name = self.name(&request.queue_url)?.to_owned();
        let (name, queue) = self
            .queues
            .remove_entry(name.as_str())
            .ok_or_else(Error::no_queue)?;
        self.bytes -= queue.bytes();
        self.deleted
            .retain(|_, at| now < at.plus_seconds(WAITING_PERIOD_SECONDS));
        self.deleted.insert(name, now);
        // Who waits for a message must learn that the queue is gone.
        self.woken.insert(queue.key);
        Ok(())
    }

    /// Checks that the queue a redrive policy names exists, is of the same type and allows it.
    fn check_redrive(&self, source: &str, settings: &Settings) -> Result<()> {
        let Some(redrive) = &settings.redrive else {
            return Ok(());
        };
        let refused = |reason: &str| Err(Error::value("RedrivePolicy", &redrive.target_arn, reason));
        let Some(target) = self
            .by_arn(&redrive.target_arn)
            .and_then(|name| self.queues.get(name))
        else {
            return refused("Dead letter target does not exist.");
        };
        if target.settings.fifo != settings.fifo {
            return refused("Dead-letter queue must be same type of queue as the source.");
        }
        let source = self.arn(source);
        let allowed = match &target.settings.redrive_allow {
            RedriveAllow::All => true,
            RedriveAllow::None => false,
            RedriveAllow::Only(arns) => arns.iter().any(|arn| **arn == *source),
        };
        if allowed {
            Ok(())
        } else {
            refused("The dead-letter queue does not allow this source queue.")
        }
    }

    /// The name in an ARN of this account.
    fn by_arn<'a>(&self, arn: &'a str) -> Option<&'a str> {
        let name = arn.rsplit(':').next()?;
        (*self.arn(name) == *arn).then_some(name)
    }

    fn name<'a>(&self, queue_url: &'a str) -> Result<&'a str> {
        if queue_url.is_empty() {
            return Err(Error::missing("QueueUrl"));
        }
        // Hosts have many names, so only the path counts.
        let mut parts = queue_url.trim_end_matches('/').rsplit('/');
        match (parts.next(), parts.next()) {
            (Some(name), Some(account)) if account == self.config.account_id => Ok(name),
            (Some(_), Some(account))
                if account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) =>
            {
                Err(Error::no_queue())
            }
            _ => {
                let message = format!("The address {queue_url} is not valid for this endpoint.");
                Err(Error::new(ErrorCode::InvalidAddress, message))
            }
        }
    }

    fn queue(&self, queue_url: &str) -> Result<&Queue> {
        let name = self.name(queue_url)?;
        self.queues.get(name).ok_or_else(Error::no_queue)
    }

    fn queue_mut(&mut self, queue_url: &str) -> Result<&mut Queue> {
        let name = self.name(queue_url)?;
        self.queues.get_mut(name).ok_or_else(Error::no_queue)
    }

    fn recount(&mut self, before: u64, after: u64) {
        self.bytes = (self.bytes + after).saturating_sub(before);
    }

    fn wake(&mut self, key: QueueKey, readable: bool) {
        if readable {
            self.woken.insert(key);
        }
    }

    /// Refuses what would take more memory than the account may have, after what has expired is gone.
    fn make_room(&mut self, now: Timestamp, wanted: u64) -> Result<()> {
        if self.bytes + wanted <= self.config.max_bytes {
            return Ok(());
        }
        for queue in self.queues.values_mut() {
            queue.advance(now);
        }
        self.bytes = self.queues.values().map(Queue::bytes).sum();
        if self.bytes + wanted <= self.config.max_bytes {
            return Ok(());
        }
        let message = format!(
            "This endpoint holds {} bytes and may hold {}: {wanted} more do not fit.",
            self.bytes, self.config.max_bytes
        );
        Err(Error::new(ErrorCode::OverLimit, message))
    }
}

fn check_name(name: &str, fifo: bool) -> Result<()> {
    if name.is_empty() {
        return Err(Error::missing("QueueName"));
    }
    let stem = name.strip_suffix(".fifo");
    let plain = stem.filter(|_| fifo).unwrap_or(name);
    let characters = plain
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if fifo == stem.is_some() && characters && !plain.is_empty() && name.len() <= MAX_QUEUE_NAME {
        return Ok(());
    }
    let kind = if fifo { ", must end with .fifo suffix" } else { "" };
    let reason =
        format!("Can only include alphanumeric characters, hyphens, or underscores{kind}. 1 to 80 in length");
    Err(Error::value("QueueName", name, &reason))
}
