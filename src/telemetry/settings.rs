//! What OpenTelemetry's standard variables say. Export of a signal is on exactly when an endpoint is configured for it or
//! its exporter is named. What is unknown, wrong or not supported is told and ignored: operators set these variables for
//! everything in a cluster, and telemetry never keeps messages out.

use std::{collections::HashMap, path::PathBuf, str::FromStr, time::Duration};

use http::Uri;
use percent_encoding::percent_decode_str;

/// What every variable begins with.
pub const PREFIX: &str = "OTEL_";

/// What is exported over OTLP, and how. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OtelSettings {
    /// Of spans.
    pub traces: Option<Export>,
    /// Of metrics.
    pub metrics: Option<Export>,
    /// Of logs.
    pub logs: Option<Export>,
    /// Which requests are traced.
    pub sampler: Sampling,
    /// Whether the trace context of callers is gone on with.
    pub propagates: bool,
    /// The name of this service.
    pub service_name: String,
    /// Further attributes of this process.
    pub resource: Vec<(String, String)>,
    /// What is ignored, each with its variable. No value is repeated: headers and endpoints may hold secrets.
    pub ignored: Vec<String>,
}

/// How one signal is exported. Headers may hold secrets and are read where they are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// How.
    pub protocol: Protocol,
    /// Where; over HTTP with the path.
    pub endpoint: String,
    /// The files of connections to an endpoint of `https`.
    pub files: ExportFiles,
    /// For how long one batch is tried.
    pub timeout: Duration,
    /// How often; of metrics the interval.
    pub delay: Duration,
    /// How many spans or lines wait at most; more are lost.
    pub queue: usize,
    /// How many go at once.
    pub batch: usize,
}

/// Whom the export over TLS trusts, and who this process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportFiles {
    /// The authorities (PEM) that are trusted in place of the system's.
    pub ca: Option<PathBuf>,
    /// A certificate chain and its private key (PEM), where the collector asks for one.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// A protocol of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    HttpProtobuf,
}

/// Which requests are traced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Whether a caller's decision is followed, where it sent one.
    pub follows_parent: bool,
    /// Of the others this share.
    pub ratio: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { follows_parent: true, ratio: 1.0 }
    }
}

/// One of the three; its word in variables and in paths.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    fn word(self) -> &'static str {
        match self {
            Signal::Traces => "TRACES",
            Signal::Metrics => "METRICS",
            Signal::Logs => "LOGS",
        }
    }
}

impl OtelSettings {
    /// Reads `variables`, all of which begin with [`PREFIX`]; those of others' are left alone.
    pub fn read(variables: HashMap<String, String>) -> Self {
        let mut reader = Reader { variables, ignored: Vec::new() };
        let settings = reader.settings();
        Self { ignored: reader.ignored, ..settings }
    }

    /// Whether anything is exported.
    pub fn is_on(&self) -> bool {
        self.traces.is_some() || self.metrics.is_some() || self.logs.is_some()
    }
}

struct Reader {
    variables: HashMap<String, String>,
    ignored: Vec<String>,
}

impl Reader {
    fn settings(&mut self) -> OtelSettings {
        if self.is_true("OTEL_SDK_DISABLED") {
            return OtelSettings::default();
        }
        let resource = self.pairs("OTEL_RESOURCE_ATTRIBUTES");
        let of_resource = resource.iter().find(|(name, _)| name == "service.name").map(|(_, value)| value.clone());
        let service_name = self.get("OTEL_SERVICE_NAME").or(of_resource).unwrap_or_else(|| "message-webhook".into());
        OtelSettings {
            sampler: self.sampling(),
            propagates: self.propagates(),
            traces: self.export(Signal::Traces),
            metrics: self.export(Signal::Metrics),
            logs: self.export(Signal::Logs),
            service_name,
            resource,
            ignored: Vec::new(),
        }
    }

    /// The value; an empty one is none.
    fn get(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn wrong(&mut self, name: &str, what: &str) {
        let text = format!("{name}: {what}");
        // Variables for all signals are read for each.
        if !self.ignored.contains(&text) {
            self.ignored.push(text);
        }
    }

    fn is_true(&mut self, name: &str) -> bool {
        match self.get(name).as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                self.wrong(name, "is neither true nor false");
                false
            }
        }
    }

    fn number<T: FromStr + PartialOrd + From<u8>>(&mut self, name: &str, default: T) -> T {
        match self.get(name).map(|text| text.parse()) {
            None => default,
            Some(Ok(number)) if number >= T::from(1) => number,
            Some(_) => {
                self.wrong(name, "is no whole number above 0");
                default
            }
        }
    }

    fn milliseconds(&mut self, name: &str, default: u32) -> Duration {
        Duration::from_millis(self.number(name, default).into())
    }

    fn pairs(&mut self, name: &str) -> Vec<(String, String)> {
        let Some(text) = self.get(name) else { return Vec::new() };
        let pair = |part: &str| {
            let (key, value) = part.split_once('=')?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            (!key.trim().is_empty()).then(|| (key.trim().to_owned(), value.into_owned()))
        };
        let parts: Vec<_> = text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect();
        if parts.iter().any(Option::is_none) {
            self.wrong(name, "is no list of NAME=VALUE, parted by commas, the values percent-encoded");
        }
        parts.into_iter().flatten().collect()
    }

    fn sampling(&mut self) -> Sampling {
        const NAME: &str = "OTEL_TRACES_SAMPLER";
        const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
        let sampler = self.get(NAME).unwrap_or_else(|| "parentbased_always_on".into());
        let (follows_parent, root) =
            sampler.strip_prefix("parentbased_").map_or((false, sampler.as_str()), |root| (true, root));
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => match self.get(ARGUMENT).map(|text| text.parse::<f64>()) {
                None => 1.0,
                Some(Ok(ratio)) if (0.0..=1.0).contains(&ratio) => ratio,
                Some(_) => {
                    self.wrong(ARGUMENT, "is no number from 0 to 1");
                    1.0
                }
            },
            _ => {
                self.wrong(NAME, "is none of always_on, always_off and traceidratio, alone or after parentbased_");
                return Sampling::default();
            }
        };
        Sampling { follows_parent, ratio }
    }

    fn propagates(&mut self) -> bool {
        const NAME: &str = "OTEL_PROPAGATORS";
        let Some(text) = self.get(NAME) else { return true };
        let mut propagates = false;
        for word in text.split(',').map(str::trim) {
            match word {
                "tracecontext" => propagates = true,
                // There is nothing that baggage would be sent on to.
                "baggage" | "none" => {}
                _ => self.wrong(NAME, "has a propagator other than tracecontext, baggage and none"),
            }
        }
        propagates
    }

    fn export(&mut self, signal: Signal) -> Option<Export> {
        let word = signal.word();
        let own_endpoint = self.get(&format!("OTEL_EXPORTER_OTLP_{word}_ENDPOINT"));
        let shared_endpoint = self.get("OTEL_EXPORTER_OTLP_ENDPOINT");
        let exporter = format!("OTEL_{word}_EXPORTER");
        let mut is_on = false;
        match self.get(&exporter) {
            None => is_on = own_endpoint.is_some() || shared_endpoint.is_some(),
            Some(words) => {
                for each in words.split(',').map(str::trim) {
                    match each {
                        "otlp" => is_on = true,
                        "none" => {}
                        // On the admin port at any time.
                        "prometheus" if signal == Signal::Metrics => {}
                        _ => self.wrong(&exporter, "has an exporter other than otlp and none"),
                    }
                }
            }
        }
        // Read though nothing may be exported: a mistake is told before it counts.
        let protocol = self.protocol(word);
        let timeout = self.of_signal(word, "TIMEOUT", |reader, name| reader.milliseconds(name, 10_000));
        let (name, endpoint) = match (own_endpoint, shared_endpoint) {
            (Some(own), _) => (format!("OTEL_EXPORTER_OTLP_{word}_ENDPOINT"), own),
            (None, Some(shared)) => ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), self.joined(shared, protocol, signal)),
            (None, None) => {
                let port = if protocol == Protocol::Grpc { 4317 } else { 4318 };
                (String::new(), self.joined(format!("http://localhost:{port}"), protocol, signal))
            }
        };
        let endpoint = self.endpoint(&name, endpoint, protocol);
        self.check_read_elsewhere(word);
        let files = self.files(word);
        let (delay, queue, batch) = self.batching(signal);
        endpoint.filter(|_| is_on).map(|endpoint| Export { protocol, endpoint, files, timeout, delay, queue, batch })
    }

    /// The value of the variable of one signal, or else of the one for all.
    fn of_signal<T>(&mut self, word: &str, name: &str, read: impl Fn(&mut Self, &str) -> T) -> T {
        let own = format!("OTEL_EXPORTER_OTLP_{word}_{name}");
        if self.get(&own).is_some() { read(self, &own) } else { read(self, &format!("OTEL_EXPORTER_OTLP_{name}")) }
    }

    fn protocol(&mut self, word: &str) -> Protocol {
        self.of_signal(word, "PROTOCOL", |reader, name| match reader.get(name).as_deref() {
            None | Some("http/protobuf") => Protocol::HttpProtobuf,
            Some("grpc") => Protocol::Grpc,
            Some(_) => {
                reader.wrong(name, "is neither grpc nor http/protobuf");
                Protocol::HttpProtobuf
            }
        })
    }

    /// Over HTTP each signal has a path below the one endpoint.
    fn joined(&self, endpoint: String, protocol: Protocol, signal: Signal) -> String {
        match protocol {
            Protocol::Grpc => endpoint,
            Protocol::HttpProtobuf => {
                format!("{}/v1/{}", endpoint.trim_end_matches('/'), signal.word().to_ascii_lowercase())
            }
        }
    }

    /// `None` where nothing can be sent.
    fn endpoint(&mut self, name: &str, endpoint: String, protocol: Protocol) -> Option<String> {
        // gRPC's may be HOST:PORT.
        let endpoint = match protocol {
            Protocol::Grpc if !endpoint.contains("://") => format!("http://{endpoint}"),
            Protocol::Grpc | Protocol::HttpProtobuf => endpoint,
        };
        let uri = endpoint.parse::<Uri>().ok();
        match uri.as_ref().map(|uri| (uri.scheme_str(), uri.authority())) {
            Some((Some("http" | "https"), Some(authority))) if !authority.as_str().contains('@') => {
                return Some(endpoint);
            }
            _ => self.wrong(name, "is no URL such as http://collector:4317"),
        }
        None
    }

    fn files(&mut self, word: &str) -> ExportFiles {
        let path = |reader: &mut Self, name: &str| reader.get(name).map(PathBuf::from);
        let ca = self.of_signal(word, "CERTIFICATE", path);
        let cert = self.of_signal(word, "CLIENT_CERTIFICATE", path);
        let key = self.of_signal(word, "CLIENT_KEY", path);
        if cert.is_some() != key.is_some() {
            let given = if cert.is_some() { "CLIENT_CERTIFICATE" } else { "CLIENT_KEY" };
            self.of_signal(word, given, |reader, name| {
                reader.wrong(name, "a client's certificate and its key are of use together alone");
            });
        }
        ExportFiles { ca, own: cert.zip(key) }
    }

    /// What the exporters themselves read.
    fn check_read_elsewhere(&mut self, word: &str) {
        self.of_signal(word, "COMPRESSION", |reader, name| {
            if reader.get(name).is_some_and(|given| !["none", "gzip"].contains(&given.to_ascii_lowercase().as_str())) {
                reader.wrong(name, "is neither gzip nor none");
            }
        });
        self.of_signal(word, "HEADERS", |reader, name| {
            for (header, value) in reader.pairs(name) {
                let good = http::HeaderName::try_from(header.as_str()).is_ok();
                if !good || http::HeaderValue::try_from(value).is_err() {
                    reader.wrong(name, "has a header that cannot be sent");
                }
            }
        });
    }

    /// How long is waited for more, how many wait, and how many go at once.
    fn batching(&mut self, signal: Signal) -> (Duration, usize, usize) {
        let (prefix, delay) = match signal {
            Signal::Metrics => {
                self.milliseconds("OTEL_METRIC_EXPORT_TIMEOUT", 30_000);
                return (self.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60_000), 1, 1);
            }
            Signal::Traces => ("OTEL_BSP", 5_000),
            Signal::Logs => ("OTEL_BLRP", 1_000),
        };
        let delay = self.milliseconds(&format!("{prefix}_SCHEDULE_DELAY"), delay);
        self.milliseconds(&format!("{prefix}_EXPORT_TIMEOUT"), 30_000);
        let queue: u32 = self.number(&format!("{prefix}_MAX_QUEUE_SIZE"), 2048);
        let batch_name = format!("{prefix}_MAX_EXPORT_BATCH_SIZE");
        let batch: u32 = self.number(&batch_name, 512.min(queue));
        if batch > queue {
            self.wrong(&batch_name, &format!("must be at most {prefix}_MAX_QUEUE_SIZE"));
        }
        (delay, queue as usize, batch.min(queue) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> OtelSettings {
        OtelSettings::read(variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    #[test]
    fn nothing_is_exported_unless_an_endpoint_or_an_exporter_is_named() {
        for off in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "x"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_TRACES_EXPORTER", "")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_SDK_DISABLED", "TRUE")],
            &[("OTEL_METRICS_EXPORTER", "prometheus"), ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert!(!read(off).is_on(), "{off:?}");
        }
        let all = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/base/")]);
        let endpoint = |export: &Option<Export>| export.as_ref().expect("on").endpoint.clone();
        assert_eq!(endpoint(&all.traces), "http://c:4318/base/v1/traces");
        assert_eq!(endpoint(&all.metrics), "http://c:4318/base/v1/metrics");
        assert_eq!(endpoint(&all.logs), "http://c:4318/base/v1/logs");
        let named = read(&[("OTEL_TRACES_EXPORTER", "otlp")]);
        assert_eq!(endpoint(&named.traces), "http://localhost:4318/v1/traces");
        assert_eq!((named.metrics, named.logs), (None, None));
    }

    #[test]
    fn a_variable_of_one_signal_goes_before_the_one_for_all() {
        let settings = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs:1/in"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "700"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE", "/logs.pem"),
            ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE", "/own.pem"),
            ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY", "/own.key"),
            ("OTEL_METRICS_EXPORTER", "none"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.01"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a%20b,deployment.environment.name=test"),
        ]);
        let (traces, logs) = (settings.traces.expect("on"), settings.logs.expect("on"));
        assert_eq!((traces.protocol, traces.endpoint.as_str()), (Protocol::Grpc, "http://collector:4317"));
        assert_eq!((traces.timeout.as_millis(), traces.queue, traces.batch), (500, 100, 100));
        assert_eq!((logs.protocol, logs.endpoint.as_str()), (Protocol::HttpProtobuf, "http://logs:1/in"));
        assert_eq!(logs.timeout.as_millis(), 700);
        assert_eq!(traces.files, ExportFiles { ca: Some("/ca.pem".into()), own: None });
        let own = Some(("/own.pem".into(), "/own.key".into()));
        assert_eq!(logs.files, ExportFiles { ca: Some("/logs.pem".into()), own });
        assert_eq!(settings.metrics, None);
        assert_eq!(settings.sampler, Sampling { follows_parent: true, ratio: 0.01 });
        assert_eq!(settings.service_name, "a b");
    }

    #[test]
    fn what_is_wrong_is_told_all_of_it_and_ignored_and_no_value_is_repeated() {
        let wrong = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://secret:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "secret"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "secret"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "secret"),
            ("OTEL_TRACES_EXPORTER", "secret"),
            ("OTEL_TRACES_SAMPLER", "secret"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "4096"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "-1"),
            ("OTEL_PROPAGATORS", "secret"),
            ("OTEL_RESOURCE_ATTRIBUTES", "secret"),
        ];
        let settings = read(&wrong);
        let told = &settings.ignored;
        for (name, _) in wrong {
            assert!(told.iter().any(|text| text.starts_with(&format!("{name}: "))), "{name} in {told:?}");
        }
        assert!(told.iter().all(|text| !text.contains("secret")), "{told:?}");
        assert!(!settings.is_on() && settings.sampler == Sampling::default());
        let ratio = read(&[("OTEL_TRACES_SAMPLER_ARG", "2"), ("OTEL_TRACES_SAMPLER", "traceidratio")]);
        assert_eq!((ratio.ignored.len(), ratio.sampler.ratio), (1, 1.0));
    }

    #[test]
    fn what_is_known_counts_beside_what_is_not() {
        let settings = read(&[
            ("OTEL_PROPAGATORS", "tracecontext,baggage,b3"),
            ("OTEL_TRACES_EXPORTER", "otlp,console"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b,nonsense"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ]);
        assert!(settings.propagates && settings.traces.is_some());
        assert_eq!(settings.resource, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(settings.ignored.len(), 4, "{:?}", settings.ignored);
    }
}
