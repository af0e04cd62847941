use std::{
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
    time::Instant,
};

use axum::{Router, extract::DefaultBodyLimit, routing::any};
use serde_json::{Value, json};

use super::*;

/// A wire of this test alone, and an upstream behind it that notes what it was sent and answers with the same body.
struct Running {
    base: String,
    address: SocketAddr,
    http: reqwest::Client,
    upstream: Arc<Mutex<Vec<(Parts, Bytes)>>>,
}

impl Running {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        let echo = any(move |request: Request| async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            noted.lock().unwrap().push((parts, body.clone()));
            ([("x-amz-crc32", "7")], body)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        let router = Router::new().fallback(echo).layer(DefaultBodyLimit::disable());
        tokio::spawn(async move { axum::serve(listener, router).await });

        let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(Wire::new(upstream).serve(listener));
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        Self { base: format!("http://{address}"), address, http, upstream: seen }
    }

    /// A call in the JSON protocol, by a function.
    async fn call(&self, function: &str, target: &str, body: &str) -> reqwest::Result<reqwest::Response> {
        let agent = format!("aws-sdk-rust/1.3 os/linux lang/rust/1.95.0 app/{function}");
        let request = self.http.post(&self.base).header("x-amz-target", target).header("user-agent", agent);
        request.body(body.to_owned()).send().await
    }

    async fn put_item(&self) -> reqwest::Result<reqwest::Response> {
        self.call("receiver", "DynamoDB_20120810.PutItem", "{}").await
    }

    async fn fault(&self, fault: Value) -> Vec<String> {
        let put = self.http.put(format!("{}/_wire/faults", self.base)).json(&fault);
        put.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    async fn reports(&self) -> Vec<FaultReport> {
        self.http.get(format!("{}/_wire/faults", self.base)).send().await.unwrap().json().await.unwrap()
    }

    async fn counts(&self) -> Vec<Count> {
        self.http.get(format!("{}/_wire/counts", self.base)).send().await.unwrap().json().await.unwrap()
    }

    fn passed_on(&self) -> usize {
        self.upstream.lock().unwrap().len()
    }
}

#[tokio::test]
async fn calls_pass_untouched_and_are_counted_by_function_and_operation() {
    let wire = Running::start().await;
    let answer = wire.call("receiver", "DynamoDB_20120810.PutItem", "12345").await.unwrap();
    assert_eq!(answer.headers()["x-amz-crc32"], "7");
    assert_eq!(answer.text().await.unwrap(), "12345");
    wire.put_item().await.unwrap();
    wire.call("worker", "secretsmanager.GetSecretValue", "").await.unwrap();
    let upload = wire.http.put(format!("{}/bucket/a%2Fb%20c?x-id=PutObject", wire.base)).header("host", "s3.local").body("x");
    upload.send().await.unwrap();

    let counts: Vec<_> = wire.counts().await.iter().map(|count| serde_json::to_value(count).unwrap()).collect();
    let count = |function, service, operation, calls, bytes| {
        json!({"function": function, "service": service, "operation": operation, "calls": calls,
               "bytes_sent": bytes, "bytes_received": bytes})
    };
    let expected = [
        count("receiver", "dynamodb", "PutItem", 2, 7),
        count("unknown", "s3", "PutObject", 1, 1),
        count("worker", "secretsmanager", "GetSecretValue", 1, 0),
    ];
    assert_eq!(counts, expected);

    let (parts, _) = &wire.upstream.lock().unwrap()[3];
    assert_eq!(parts.uri.to_string(), "/bucket/a%2Fb%20c?x-id=PutObject");
    assert_eq!(parts.headers["host"], "s3.local");
}

#[tokio::test]
async fn counts_start_from_nothing_when_deleted() {
    let wire = Running::start().await;
    wire.put_item().await.unwrap();
    wire.http.delete(format!("{}/_wire/counts", wire.base)).send().await.unwrap();
    assert!(wire.counts().await.is_empty());
}

#[tokio::test]
async fn six_megabytes_pass_both_ways() {
    let wire = Running::start().await;
    let body: Vec<u8> = (0..6 * 1024 * 1024_u32).map(|n| (n % 251) as u8).collect();
    let answer = wire.http.put(format!("{}/bucket/key", wire.base)).body(body.clone()).send().await.unwrap();
    assert!(answer.bytes().await.unwrap() == body, "the body came back changed");
    assert_eq!(wire.counts().await[0].bytes_received, body.len() as u64);
}

#[test]
fn operations_are_named_as_the_services_name_them() {
    let call = |method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]| {
        let mut request = http::Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let call = Call::of(&request.body(()).unwrap().into_parts().0, body);
        format!("{}:{}:{}", call.function, call.service, call.operation)
    };
    let json = |target| call("POST", "/", &[("x-amz-target", target), ("x-amz-user-agent", "aws-sdk-rust app/worker md/x")], b"");
    assert_eq!(json("DynamoDB_20120810.TransactWriteItems"), "worker:dynamodb:TransactWriteItems");
    assert_eq!(json("AmazonSQS.SendMessageBatch"), "worker:sqs:SendMessageBatch");
    assert_eq!(json("secretsmanager.GetSecretValue"), "worker:secretsmanager:GetSecretValue");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(call("POST", "/", &form, b"Version=1&Action=GetCallerIdentity"), "unknown:query:GetCallerIdentity");
    for (method, target, expected) in [
        ("PUT", "/bucket/a/b", "s3:PutObject"),
        ("GET", "/bucket/a", "s3:GetObject"),
        ("HEAD", "/bucket/a", "s3:HeadObject"),
        ("DELETE", "/bucket/a", "s3:DeleteObject"),
        ("GET", "/bucket?list-type=2&prefix=a", "s3:ListObjectsV2"),
        ("GET", "/bucket", "s3:ListObjectsV2"),
        ("POST", "/bucket?delete", "s3:DeleteObjects"),
        ("PUT", "/bucket", "s3:Other:PUT"),
        ("PUT", "/bucket/a?partNumber=1&uploadId=x", "s3:Multipart:PUT"),
        ("POST", "/2015-03-31/functions/worker/invocations", "lambda:Invoke"),
    ] {
        assert_eq!(call(method, target, &[], b""), format!("unknown:{expected}"), "{method} {target}");
    }
}

#[tokio::test]
async fn a_fault_breaks_exactly_the_calls_that_it_names() {
    let wire = Running::start().await;
    let fault = json!({"id": "f", "function": "receiver", "operation": "PutItem", "body_contains": "evt-1", "times": 1,
                       "action": "status", "status": 500});
    assert_eq!(wire.fault(fault).await, ["f"]);
    let status = async |function, operation, body| {
        wire.call(function, &format!("DynamoDB_20120810.{operation}"), body).await.unwrap().status().as_u16()
    };
    assert_eq!(status("worker", "PutItem", "evt-1").await, 200);
    assert_eq!(status("receiver", "GetItem", "evt-1").await, 200);
    assert_eq!(status("receiver", "PutItem", "evt-2").await, 200);
    assert_eq!(status("receiver", "PutItem", "{\"evt-1\"}").await, 500);
    assert_eq!(status("receiver", "PutItem", "evt-1").await, 200, "it was to happen once");
    assert_eq!(wire.passed_on(), 4);
    let report = &wire.reports().await[0];
    assert_eq!((report.fault.id.as_deref(), report.fired), (Some("f"), 1));
    assert_eq!(wire.counts().await.iter().map(|count| count.calls).sum::<u64>(), 5, "a broken call is a call");
}

#[tokio::test]
async fn faults_are_added_replaced_and_taken_away_one_by_one() {
    let wire = Running::start().await;
    let set = json!([{"action": "reset_before", "operation": "A"}, {"id": "b", "action": "hang", "operation": "B"}]);
    let ids = wire.fault(set).await;
    wire.fault(json!({"id": "b", "action": "throttle", "operation": "B"})).await;
    assert_eq!(wire.reports().await.len(), 2);
    assert_eq!(wire.call("f", "S.B", "").await.unwrap().status(), 400);
    wire.http.delete(format!("{}/_wire/faults/{}", wire.base, ids[0])).send().await.unwrap();
    assert_eq!(wire.reports().await.len(), 1);
    wire.http.delete(format!("{}/_wire/faults", wire.base)).send().await.unwrap();
    assert!(wire.reports().await.is_empty());
}

#[tokio::test]
async fn what_is_no_fault_is_refused_in_words() {
    let wire = Running::start().await;
    for wrong in [
        json!({"action": "explode"}),
        json!({"action": "kill", "functoin": "receiver"}),
        json!({"operation": "PutItem"}),
        json!({"action": "delay"}),
        json!({"action": "status"}),
        json!({"action": "status", "status": 20}),
        json!({"action": "hang", "delay_ms": 5}),
        json!({"action": "hang", "status": 500}),
        json!({"action": "hang", "one_in": 0}),
        json!({"action": "hang", "seed": 1}),
    ] {
        let answer = wire.http.put(format!("{}/_wire/faults", wire.base)).json(&wrong).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{wrong}");
    }
    assert!(wire.reports().await.is_empty());
}

#[tokio::test]
async fn reset_before_has_no_effect_and_reset_after_has_one() {
    let wire = Running::start().await;
    wire.fault(json!({"action": "reset_before", "times": 1})).await;
    assert!(wire.put_item().await.is_err());
    assert_eq!(wire.passed_on(), 0);
    wire.fault(json!({"action": "reset_after", "times": 1})).await;
    assert!(wire.put_item().await.is_err());
    assert_eq!(wire.passed_on(), 1);
    assert!(wire.put_item().await.is_ok(), "the next connection is whole");
}

#[tokio::test]
async fn a_hanging_call_is_never_answered_and_has_no_effect() {
    let wire = Running::start().await;
    let id = wire.fault(json!({"action": "hang"})).await.remove(0);
    let call = wire.http.post(&wire.base).timeout(Duration::from_millis(200)).send();
    assert!(call.await.unwrap_err().is_timeout());
    assert_eq!(wire.passed_on(), 0);
    assert_eq!((wire.reports().await[0].fault.id.as_ref(), wire.reports().await[0].fired), (Some(&id), 1));
}

#[tokio::test]
async fn a_call_that_hangs_after_is_never_answered_though_it_had_its_effect() {
    let wire = Running::start().await;
    wire.fault(json!({"action": "hang_after", "times": 1})).await;
    let call = wire.http.post(&wire.base).timeout(Duration::from_millis(500)).send();
    assert!(call.await.unwrap_err().is_timeout());
    assert_eq!(wire.passed_on(), 1);
    assert!(wire.put_item().await.is_ok(), "the next call is answered");
}

#[tokio::test]
async fn a_fault_can_be_about_one_service_alone() {
    let wire = Running::start().await;
    wire.fault(json!({"service": "sqs", "action": "status", "status": 500})).await;
    assert_eq!(wire.put_item().await.unwrap().status(), 200);
    assert_eq!(wire.call("receiver", "AmazonSQS.SendMessage", "{}").await.unwrap().status(), 500);
}

#[tokio::test]
async fn one_call_in_so_many_is_broken_and_the_same_ones_for_the_same_seed() {
    const CALLS: usize = 200;
    let wire = Running::start().await;
    let broken = async |one_in: u64, seed: u64| {
        wire.fault(json!({"id": "f", "action": "status", "status": 500, "one_in": one_in, "seed": seed})).await;
        let mut broken = Vec::new();
        for _ in 0..CALLS {
            broken.push(wire.put_item().await.unwrap().status() == 500);
        }
        broken
    };
    let first = broken(4, 7).await;
    let count = first.iter().filter(|broken| **broken).count();
    assert!((CALLS / 8..CALLS / 2).contains(&count), "{count} of {CALLS} broken");
    assert_eq!(wire.reports().await[0].fired, count as u64);
    assert_eq!(broken(4, 7).await, first);
    assert_ne!(broken(4, 8).await, first);
    assert_eq!(broken(1, 7).await, [true; CALLS]);
}

#[tokio::test]
async fn a_call_that_one_fault_does_not_draw_can_suffer_the_next() {
    let wire = Running::start().await;
    wire.fault(json!({"id": "rare", "action": "hang", "one_in": u64::MAX})).await;
    wire.fault(json!({"id": "sure", "action": "status", "status": 500})).await;
    assert_eq!(wire.put_item().await.unwrap().status(), 500);
    let fired: Vec<u64> = wire.reports().await.iter().map(|report| report.fired).collect();
    assert_eq!(fired, [0, 1]);
}

#[tokio::test]
async fn a_delayed_call_is_passed_on_late() {
    let wire = Running::start().await;
    wire.fault(json!({"action": "delay", "delay_ms": 200})).await;
    let began = Instant::now();
    assert_eq!(wire.put_item().await.unwrap().status(), 200);
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(wire.passed_on(), 1);
}

#[tokio::test]
async fn throttling_has_the_form_of_the_service() {
    let wire = Running::start().await;
    wire.fault(json!({"action": "throttle"})).await;
    let answer = wire.put_item().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.json::<Value>().await.unwrap()["__type"], "ThrottlingException");
    let answer = wire.http.get(format!("{}/bucket/key", wire.base)).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().contains("<Code>SlowDown</Code>"));
    assert_eq!(wire.passed_on(), 0);
}

#[tokio::test]
async fn an_emulator_that_is_down_is_told_as_that() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(Wire::new(gone).serve(listener));
    let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(base).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert!(answer.text().await.unwrap().contains("cannot reach the emulator"));
}

#[tokio::test]
async fn kill_ends_the_calling_process_before_the_call_has_an_effect() {
    let wire = Running::start().await;
    let (killed, pid) = kill_a_caller(&wire, "kill").await;
    assert_eq!(killed, [pid]);
    assert_eq!(wire.passed_on(), 0);
}

#[tokio::test]
async fn kill_after_ends_the_calling_process_when_the_call_had_its_effect() {
    let wire = Running::start().await;
    let (killed, pid) = kill_a_caller(&wire, "kill_after").await;
    assert_eq!(killed, [pid]);
    assert_eq!(wire.passed_on(), 1);
}

#[tokio::test]
async fn the_wire_does_not_kill_its_own_process() {
    let wire = Running::start().await;
    wire.fault(json!({"action": "kill"})).await;
    assert!(wire.put_item().await.is_err());
    assert!(wire.reports().await[0].killed.is_empty());
}

/// Sets a fault, lets a process of its own make a call, and sees that process die by SIGKILL.
async fn kill_a_caller(wire: &Running, action: &str) -> (Vec<u32>, u32) {
    wire.fault(json!({"function": "child", "action": action})).await;
    let request = r"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: x app/child\r\n\r\n";
    // The shell itself waits for the answer; it starts nothing that could hold the connection as well.
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{} && printf '{request}' >&3 && read -r answer <&3", wire.address.port());
    let mut child = Command::new("bash").arg("-c").arg(script).stdin(Stdio::null()).spawn().unwrap();
    let pid = child.id();
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(status.signal(), Some(9), "{status}");
    let killed = crate::stack::eventually("the kill is reported", Duration::from_secs(5), async || {
        crate::stack::when(wire.reports().await.remove(0).killed, |killed| !killed.is_empty())
    });
    (killed.await, pid)
}
