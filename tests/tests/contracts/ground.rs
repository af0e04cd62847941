//! Where a contract is held to, and how it gets there.

use std::{
    collections::HashMap,
    env,
    fmt::Debug,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::{
    config::{Credentials, SharedCredentialsProvider},
    error::{ProvideErrorMetadata, SdkError},
    types::{
        AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
        ProjectionType, ScalarAttributeType, TableStatus,
    },
};
use aws_sdk_sqs::types::QueueAttributeName;
use futures::FutureExt;
use shared::time::Timestamp;
use tests::{
    model::{self, Aws, IN_FLIGHT_MAX, QueueSettings, Settings, TableSettings},
    stack::{STACK_DEFAULT, Stack, unique},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::OnceCell,
    time::Instant,
};

/// How long [`Queues::work`] hides a received message.
pub(super) const VISIBILITY: Duration = Duration::from_secs(2);
/// How often a message of [`Queues::work`] is received before it dies.
pub(super) const RECEIVES_MAX: u32 = 3;
/// How far the model's indexes lag in contracts: they must be looked at again and again, as anywhere.
const INDEX_LAG: Duration = Duration::from_millis(300);
/// How long what is only eventually so may take.
const EVENTUALLY: Duration = Duration::from_secs(30);
/// How long AWS may take to make a table with two indexes.
const TABLE_PATIENCE: Duration = Duration::from_secs(600);

/// Where the local AWS is known to differ from AWS: it takes what AWS refuses, but for [`Difference::ElementsMove`], so code that
/// runs on it may still be wrong. Each says what AWS documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// Expressions have the developer guide's grammar, and their operators the types that it names ("Condition and filter
    /// expressions, operators, and functions", "Update expressions", "Key condition expressions"): the local AWS takes some that
    /// do not.
    Grammar,
    /// "If you query or scan a global secondary index, you can only request attributes that are projected into the index."
    Unprojected,
    /// Update expressions: all paths of one expression are those of the item before it.
    ElementsMove,
    /// An expression that is none makes the request invalid, not a reason to cancel a transaction: it is not among the messages
    /// of a `ValidationError` (TransactWriteItems, "Cancellation reason codes").
    TransactionGrammar,
    /// "If you use an old ReceiptHandle, the request will succeed, but the message might not be deleted" (DeleteMessage): the
    /// local AWS refuses handles of earlier receives and of messages that are gone.
    OldHandles,
    /// Parameters of SQS have documented ranges: VisibilityTimeout 0 to 43,200, and no more since the message was received,
    /// WaitTimeSeconds 0 to 20, DelaySeconds 0 to 900.
    Ranges,
    /// `MessageNotInflight`: "The specified message isn't in flight" (ChangeMessageVisibility).
    NotInFlight,
    /// "`Name`, `type`, `value` and the message body must not be empty or null" (SQS message attributes).
    EmptyAttribute,
    /// "If you use both this parameter and `VersionId`, the two parameters must refer to the same secret version"
    /// (GetSecretValue, `VersionStage`).
    StageOfAnotherVersion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Model,
    Local,
    Real,
}

pub(super) type Item = HashMap<String, AttributeValue>;

/// Something that answers like AWS, with what contracts need in it.
pub(super) struct Ground {
    kind: Kind,
    pub(super) dynamodb: aws_sdk_dynamodb::Client,
    pub(super) sqs: aws_sdk_sqs::Client,
    pub(super) s3: aws_sdk_s3::Client,
    pub(super) secretsmanager: aws_sdk_secretsmanager::Client,
    /// A table like the ledger's. Other contracts use it too.
    pub(super) table: String,
    /// A bucket. Other contracts use it too.
    pub(super) bucket: String,
    /// What this contract's own names begin with.
    pub(super) own: String,
    model: Option<Aws>,
    queues: Mutex<Vec<String>>,
    secrets: Mutex<Vec<String>>,
}

/// Two queues of this contract alone.
pub(super) struct Queues {
    /// The URL of one that hides messages for [`VISIBILITY`], and moves what was received [`RECEIVES_MAX`] times to the other.
    pub(super) work: String,
    /// The URL of its dead-letter queue.
    pub(super) dead: String,
}

/// Holds everyone to a contract.
pub(super) fn contract(terms: impl AsyncFn(&Ground)) {
    on_the_model(async || terms(&Ground::modelled()).await);
    RUNTIME.block_on(async {
        for remote in REMOTES.get_or_init(remotes).await {
            let account = remote.enter().await;
            let ground = Ground::of(remote, &account);
            let kept = AssertUnwindSafe(terms(&ground)).catch_unwind().await;
            ground.remove_own().await;
            remote.leave().await;
            if let Err(panic) = kept {
                eprintln!("the contract is broken by {}", remote.name);
                resume_unwind(panic);
            }
        }
    });
}

/// Runs something on a clock that moves on whenever nobody has anything to do.
pub(super) fn on_the_model(steps: impl AsyncFnOnce()) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime can be made");
    runtime.block_on(steps());
}

/// The model's clock: tokio's, from some moment on.
pub(super) fn clock() -> impl Fn() -> Timestamp + Send + Sync + 'static {
    let began = Instant::now();
    move || Timestamp::from_seconds(1_800_000_000).plus(began.elapsed())
}

impl Ground {
    fn modelled() -> Self {
        let own = format!("own-{}", unique());
        let queue = |name: &str, visibility: Duration, redrive: Option<(String, u32)>| QueueSettings {
            name: format!("{own}-{name}"),
            visibility,
            retention: Duration::from_secs(4 * 24 * 60 * 60),
            redrive,
            is_fifo: false,
            in_flight_max: IN_FLIGHT_MAX,
        };
        let dead = format!("{own}-dead");
        let settings = Settings {
            tables: vec![table_settings("contracts")],
            queues: vec![queue("work", VISIBILITY, Some((dead, RECEIVES_MAX))), queue("dead", VISIBILITY, None)],
            buckets: vec!["contracts".to_owned()],
            index_lag: INDEX_LAG,
            read_lag: INDEX_LAG,
        };
        let aws = Aws::new(settings, clock());
        let ground = Self::with(Kind::Model, &aws.config("contracts"), "contracts", own);
        Self { model: Some(aws), ..ground }
    }

    fn of(remote: &Remote, account: &str) -> Self {
        Self::with(remote.kind, &remote.config, account, format!("{account}-{}", unique()))
    }

    fn with(kind: Kind, config: &SdkConfig, shared: &str, own: String) -> Self {
        Self {
            kind,
            dynamodb: aws_sdk_dynamodb::Client::new(config),
            sqs: aws_sdk_sqs::Client::new(config),
            s3: s3_client(config),
            secretsmanager: aws_sdk_secretsmanager::Client::new(config),
            table: shared.to_owned(),
            bucket: shared.to_owned(),
            own,
            model: None,
            queues: Mutex::default(),
            secrets: Mutex::default(),
        }
    }

    /// Holds what was found to what AWS documents, or the local AWS to what it does instead.
    #[track_caller]
    pub(super) fn expect<T: Debug + PartialEq>(&self, found: &T, documented: &T, difference: Difference, local: &T) {
        let expected = if self.kind == Kind::Local { local } else { documented };
        assert_eq!(found, expected, "{difference:?}");
    }

    /// A partition key that no other contract uses.
    pub(super) fn key(&self) -> String {
        format!("{}#{}", self.own, unique())
    }

    /// Queues of this contract alone, made when first asked for.
    pub(super) async fn queues(&self) -> Queues {
        let (work, dead) = (format!("{}-work", self.own), format!("{}-dead", self.own));
        if let Some(model) = &self.model {
            return Queues { work: model.queue_url(&work), dead: model.queue_url(&dead) };
        }
        let seconds = VISIBILITY.as_secs().to_string();
        let create = self.sqs.create_queue().queue_name(dead).attributes(QueueAttributeName::VisibilityTimeout, &seconds);
        let dead = create.send().await.unwrap().queue_url.unwrap();
        self.queues.lock().unwrap().push(dead.clone());
        let attributes = self.sqs.get_queue_attributes().queue_url(&dead).attribute_names(QueueAttributeName::QueueArn);
        let arn = attributes.send().await.unwrap().attributes.unwrap().remove(&QueueAttributeName::QueueArn).unwrap();
        let redrive = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"{RECEIVES_MAX}"}}"#);
        let create = self.sqs.create_queue().queue_name(work).attributes(QueueAttributeName::VisibilityTimeout, seconds);
        let create = create.attributes(QueueAttributeName::RedrivePolicy, redrive);
        let work = create.send().await.unwrap().queue_url.unwrap();
        self.queues.lock().unwrap().push(work.clone());
        Queues { work, dead }
    }

    /// A secret of this contract alone with a value; its name.
    pub(super) async fn secret(&self, text: &str) -> String {
        let name = format!("{}-{}", self.own, unique());
        match &self.model {
            Some(model) => model.put_secret(&name, text),
            None => {
                self.secretsmanager.create_secret().name(&name).secret_string(text).send().await.unwrap();
                self.secrets.lock().unwrap().push(name.clone());
            }
        }
        name
    }

    /// Puts an item with two keys and other attributes.
    pub(super) async fn put(&self, item: Item) {
        self.dynamodb.put_item().table_name(&self.table).set_item(Some(item)).send().await.unwrap();
    }

    /// The item as it is.
    pub(super) async fn get(&self, pk: &str, sk: &str) -> Option<Item> {
        let get = self.dynamodb.get_item().table_name(&self.table).consistent_read(true);
        get.key("pk", s(pk)).key("sk", s(sk)).send().await.unwrap().item
    }

    async fn remove_own(&self) {
        let (queues, secrets) = (self.queues.lock().unwrap().clone(), self.secrets.lock().unwrap().clone());
        for url in queues {
            let _ = self.sqs.delete_queue().queue_url(url).send().await;
        }
        for name in secrets {
            let delete = self.secretsmanager.delete_secret().secret_id(name).force_delete_without_recovery(true);
            let _ = delete.send().await;
        }
    }
}

/// Waits until something is so that is only eventually so.
pub(super) async fn eventually<T: Debug + PartialEq>(expected: T, look: impl AsyncFn() -> T) {
    let began = Instant::now();
    loop {
        let found = look().await;
        if found == expected || began.elapsed() > EVENTUALLY {
            assert_eq!(found, expected, "after {:?}", began.elapsed());
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The code of a service's refusal; `ok` if there is none.
pub(super) fn code<T, E: ProvideErrorMetadata + Debug, R: Debug>(result: &Result<T, SdkError<E, R>>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.code().map_or_else(|| format!("{error:?}"), str::to_owned),
    }
}

pub(super) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(super) fn n(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// An item of these attributes.
pub(super) fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

// ---- What is outside this process ----------------------------------------------------------------------------------------

/// One runtime for all of them: connections belong to it.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be made"));

static REMOTES: OnceCell<Vec<Remote>> = OnceCell::const_new();

/// An AWS outside this process. What contracts share is made by the first one that runs and removed by the last.
struct Remote {
    name: String,
    kind: Kind,
    config: SdkConfig,
    running: tokio::sync::Mutex<Option<Shared>>,
}

struct Shared {
    name: String,
    contracts: Arc<AtomicU32>,
}

async fn remotes() -> Vec<Remote> {
    let mut remotes = Vec::new();
    let remote =
        |name: &str, kind, config| Remote { name: name.to_owned(), kind, config, running: tokio::sync::Mutex::default() };
    match env::var("POSTHOUSE_STACK").unwrap_or_else(|_| STACK_DEFAULT.to_owned()).as_str() {
        "none" => {
            eprintln!("POSTHOUSE_STACK=none: the model alone is held to the contracts, unless POSTHOUSE_CONTRACTS says more")
        }
        name => {
            let stack = Stack::load(name).await.unwrap_or_else(|why| panic!("{why}\n(POSTHOUSE_STACK=none: the model alone)"));
            remotes.push(remote("the local AWS", Kind::Local, stack.aws));
        }
    }
    match env::var("POSTHOUSE_CONTRACTS").unwrap_or_default().as_str() {
        "" => {}
        "aws" => remotes.push(remote("AWS", Kind::Real, real_account())),
        url if url.starts_with("http") => remotes.push(remote(url, Kind::Local, at_url(url))),
        other => panic!("POSTHOUSE_CONTRACTS is `{other}`, which is neither `aws` nor a URL"),
    }
    remotes
}

fn real_account() -> SdkConfig {
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("POSTHOUSE_CONTRACTS=aws needs {name}"));
    let token = env::var("AWS_SESSION_TOKEN").ok();
    let credentials =
        Credentials::new(variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"), token, None, "environment");
    let client = aws_smithy_http_client::Builder::new().tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
        aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
    ));
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(variable("AWS_REGION")))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(client.build_https())
        .build()
}

fn at_url(url: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "contracts")))
        .http_client(aws_smithy_http_client::Builder::new().pool_idle_timeout(Duration::from_secs(1)).build_http())
        .build()
}

impl Remote {
    /// The name of what contracts share, which is there from now on.
    async fn enter(&self) -> String {
        let mut running = self.running.lock().await;
        if running.is_none() {
            let name = format!("posthouse-contracts-{}", unique().to_ascii_lowercase());
            self.make(&name).await;
            *running = Some(Shared { name, contracts: Arc::default() });
        }
        let shared = running.as_ref().unwrap();
        shared.contracts.fetch_add(1, Ordering::Relaxed);
        shared.name.clone()
    }

    async fn leave(&self) {
        let mut running = self.running.lock().await;
        if let Some(shared) = running.take_if(|shared| shared.contracts.fetch_sub(1, Ordering::Relaxed) == 1) {
            self.remove(&shared.name).await;
        }
    }

    async fn make(&self, name: &str) {
        let dynamodb = aws_sdk_dynamodb::Client::new(&self.config);
        let settings = table_settings(name);
        let element = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
        let keys = |keys: &model::Keys| {
            let range = keys.range.as_deref().map(|range| element(range, KeyType::Range));
            std::iter::once(element(&keys.hash, KeyType::Hash)).chain(range).collect::<Vec<_>>()
        };
        let all_keys = std::iter::once(&settings.keys).chain(settings.indexes.iter().map(|index| &index.keys));
        let names = all_keys.flat_map(|keys| std::iter::once(keys.hash.clone()).chain(keys.range.clone()));
        let definitions = names.map(|name| {
            AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build().unwrap()
        });
        let indexes = settings.indexes.iter().map(|index| {
            let included = index.includes.clone().filter(|names| !names.is_empty());
            let kind = if included.is_some() { ProjectionType::Include } else { ProjectionType::KeysOnly };
            let projection = Projection::builder().projection_type(kind).set_non_key_attributes(included).build();
            let index_keys = keys(&index.keys);
            let index = GlobalSecondaryIndex::builder().index_name(&index.name).set_key_schema(Some(index_keys));
            index.projection(projection).build().unwrap()
        });
        let create = dynamodb.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
        let create = create.set_key_schema(Some(keys(&settings.keys))).set_attribute_definitions(Some(definitions.collect()));
        create.set_global_secondary_indexes(Some(indexes.collect())).send().await.expect("a table can be made");
        let began = Instant::now();
        loop {
            let table = dynamodb.describe_table().table_name(name).send().await.unwrap().table.unwrap();
            if table.table_status == Some(TableStatus::Active) {
                break;
            }
            assert!(began.elapsed() < TABLE_PATIENCE, "the table {name} is {:?}", table.table_status);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let region = self.config.region().map(Region::as_ref).unwrap_or_default();
        let create = s3_client(&self.config).create_bucket().bucket(name);
        // The oldest region is the one that must not be named.
        let create = if region == "us-east-1" {
            create
        } else {
            let place = aws_sdk_s3::types::CreateBucketConfiguration::builder().location_constraint(region.into()).build();
            create.create_bucket_configuration(place)
        };
        create.send().await.expect("a bucket can be made");
    }

    async fn remove(&self, name: &str) {
        let _ = aws_sdk_dynamodb::Client::new(&self.config).delete_table().table_name(name).send().await;
        let s3 = s3_client(&self.config);
        let objects = s3.list_objects_v2().bucket(name).send().await;
        for object in objects.into_iter().flat_map(|listed| listed.contents.unwrap_or_default()) {
            let _ = s3.delete_object().bucket(name).set_key(object.key).send().await;
        }
        let _ = s3.delete_bucket().bucket(name).send().await;
    }
}

fn table_settings(name: &str) -> TableSettings {
    model::ledger_table(name)
}

fn s3_client(config: &SdkConfig) -> aws_sdk_s3::Client {
    aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(config).force_path_style(true).build())
}
