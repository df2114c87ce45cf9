//! What can be measured of a gateway, named once. No label ever comes from a topic, a subject or a client: the number of
//! series is constant.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;

/// Renders the figures of this process.
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// Installs the process's recorder, or finds the one that is there: it belongs to the process, not to a gateway.
    pub fn install() -> Exporter {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            // Somebody who embeds the gateway may have a recorder of their own; then ours stays empty.
            let _ = metrics::set_global_recorder(recorder);
            describe();
            handle
        });
        Exporter(handle.clone())
    }

    pub fn render(&self) -> String {
        self.0.render()
    }
}

/// What a shard counts on its way: handles are looked up once, and told once a turn, not for each write.
pub struct Deliveries {
    bytes: metrics::Counter,
    messages: metrics::Counter,
    /// Since they were told last.
    untold: (u64, u64),
}

impl Default for Deliveries {
    fn default() -> Self {
        Deliveries {
            bytes: metrics::counter!("anabranch_sent_bytes_total"),
            messages: metrics::counter!("anabranch_delivered_total"),
            untold: (0, 0),
        }
    }
}

impl Deliveries {
    pub fn count(&mut self, bytes: usize, messages: u64) {
        self.untold.0 += bytes as u64;
        self.untold.1 += messages;
    }

    pub fn tell(&mut self) {
        let (bytes, messages) = std::mem::take(&mut self.untold);
        if bytes > 0 || messages > 0 {
            self.bytes.increment(bytes);
            self.messages.increment(messages);
        }
    }
}

/// What the pump counts: its handles are looked up once, not for each batch.
pub struct Readings {
    records: metrics::Counter,
    duplicates: metrics::Counter,
}

impl Default for Readings {
    fn default() -> Self {
        Readings {
            records: metrics::counter!("anabranch_records_total"),
            duplicates: metrics::counter!("anabranch_duplicates_total"),
        }
    }
}

impl Readings {
    pub fn count(&self, records: usize, duplicates: usize) {
        self.records.increment(records as u64);
        self.duplicates.increment(duplicates as u64);
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge};
    describe_gauge!("anabranch_connections", "WebSocket connections open");
    describe_counter!("anabranch_connections_refused_total", "Sockets refused at the door, by limits");
    describe_counter!("anabranch_records_total", "Records read from the log");
    describe_counter!(
        "anabranch_duplicates_total",
        "Records left out, because an earlier one has the same messageId"
    );
    describe_counter!(
        "anabranch_transient_messages_total",
        "Messages that no log keeps, received from the broker"
    );
    describe_counter!(
        "anabranch_transient_missed_total",
        "Deliveries of messages that no log keeps for which there was no room"
    );
    describe_gauge!("anabranch_transient_up", "1 while the source of messages that no log keeps is followed");
    describe_counter!("anabranch_gaps_total", "Gaps that the log has told");
    describe_counter!(
        "anabranch_documents_too_large_total",
        "Merge patches left out of a newest value, which would have outgrown an envelope"
    );
    describe_counter!(
        "anabranch_poisoned_records_total",
        "Records stepped over because they end every consumer of the broker"
    );
    describe_counter!(
        "anabranch_quarantined_records_total",
        "Records of other programs that are no messages, or have no topic, by reason"
    );
    describe_gauge!("anabranch_log_up", "1 while the log is read and takes records, by partition");
    describe_gauge!(
        "anabranch_log_lag_records",
        "Records that are in the log and not read yet, by partition"
    );
    describe_gauge!("anabranch_log_lag_seconds", "Age of the newest record read, while there are newer ones");
    describe_gauge!("anabranch_shadows", "Shadows of devices that exist");
    describe_gauge!("anabranch_shadow_on_duty", "1 while this node answers updates of shadows");
    describe_gauge!("anabranch_shadow_waiting", "Updates of shadows that no document has answered yet");
    describe_counter!(
        "anabranch_shadow_updates_total",
        "Updates of shadows that this node has judged, by result; some twice, if another node was faster"
    );
    describe_counter!(
        "anabranch_shadow_void_total",
        "Documents and deltas in the log that do not count: another was first, or no gateway wrote them"
    );
    describe_counter!(
        "anabranch_shadow_rewritten_total",
        "Shadows that were written again because the log was about to forget them"
    );
    describe_counter!(
        "anabranch_shadow_gaps_total",
        "Times that the log had lost records, and with them perhaps updates of shadows"
    );
    describe_counter!("anabranch_sent_bytes_total", "Bytes written to sockets");
    describe_counter!("anabranch_delivered_total", "Message frames handed to sockets");
    describe_counter!("anabranch_replay_reads_total", "Pages read from the log for connections behind");
}
