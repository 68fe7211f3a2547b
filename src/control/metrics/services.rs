//! The gauges of services. A service that is removed is not reported any more: its gauges are set to 0 once, and then left, since a gauge that
//! was shown stays in the exposition with its last value.

use std::collections::BTreeMap;
use std::sync::Mutex;

use metrics::gauge;

use super::list::SERVICE_GAUGES;
use crate::base::ServiceId;
use crate::link::ShardReport;

/// Services of the last report, by shard: at most as many as there are numbers.
static SHOWN: Mutex<BTreeMap<String, Vec<ServiceId>>> = Mutex::new(BTreeMap::new());

/// Publishes those of a shard.
pub(super) fn publish(shard: &str, report: &ShardReport) {
    for slots in &report.services {
        let values = [slots.sessions, slots.max_sessions, slots.probes, slots.max_probes];
        set(shard, slots.service, values);
    }
    let now: Vec<ServiceId> = report.services.iter().map(|slots| slots.service).collect();
    let mut shown = SHOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = shown.insert(shard.to_owned(), now.clone()).unwrap_or_default();
    for gone in before.into_iter().filter(|service| !now.contains(service)) {
        set(shard, gone, [0; 4]);
    }
}

fn set(shard: &str, service: ServiceId, values: [u32; 4]) {
    let service = service.0.to_string();
    for ((name, _), value) in SERVICE_GAUGES.iter().zip(values) {
        let labels = [("shard", shard.to_owned()), ("service", service.clone())];
        gauge!(format!("breakwater_{name}"), &labels).set(f64::from(value));
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::link::ServiceReport;

    #[test]
    fn a_service_that_is_gone_shows_nothing() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let report = |services: &[u8]| {
            let of = |service: &u8| ServiceReport {
                service: ServiceId(*service),
                sessions: 3,
                probes: 4,
                max_sessions: 5,
                max_probes: 6,
                obeys: [0; 2],
                refused: [0; 2],
            };
            ShardReport { services: services.iter().map(of).collect(), ..ShardReport::default() }
        };
        let sum = |service: u8| {
            let text = recorder.handle().render();
            let of = format!("shard=\"901\",service=\"{service}\"");
            let values = text.lines().filter(|line| line.contains(&of));
            values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
        };
        let publish = |services: &[u8]| {
            metrics::with_local_recorder(&recorder, || super::publish("901", &report(services)));
        };
        publish(&[0, 1]);
        assert_eq!((sum(0), sum(1)), (18.0, 18.0));
        publish(&[0]);
        assert_eq!((sum(0), sum(1)), (18.0, 0.0));
        publish(&[0, 1]);
        assert_eq!((sum(0), sum(1)), (18.0, 18.0), "the number is used again");
    }
}
