//! Host metrics of an invented host, and of this one.

use expect_test::expect;
use opentelemetry_proto::tonic::common::v1::any_value;

use super::*;

fn host(proc: &std::path::Path) -> Host {
    let telemetry = runtime::Telemetry::new();
    let (ledger, stats) = (runtime::Ledger::new(&telemetry), Stats::new(&telemetry));
    let dir = tempfile::tempdir().unwrap();
    let options = crate::buffer::QueueOptions {
        dir: dir.path().to_owned(),
        signal: runtime::Signal::Metrics,
        bytes_max: 4 << 20,
        seq_floor: 0,
    };
    let queue = crate::buffer::Queue::open(options, &ledger, &stats, &mut |_, _| {}).unwrap();
    Host {
        config: HostConfig { proc_path: proc.to_owned(), sys_path: proc.join("sys"), ..HostConfig::default() },
        sink: MetricSink { queue, ledger },
        clock: Clock::fixed(1_800_000_000_000_000_000),
        stats,
        base: vec![("host.name".to_owned(), "h".to_owned())],
        extra: Vec::new(),
    }
}

fn print(metrics: &ResourceMetrics, wanted: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for metric in metrics.scope_metrics.iter().flat_map(|scope| &scope.metrics).filter(|metric| wanted(&metric.name)) {
        let (kind, points) = match &metric.data {
            Some(Data::Gauge(gauge)) => ("gauge", &gauge.data_points),
            Some(Data::Sum(sum)) if sum.is_monotonic => ("counter", &sum.data_points),
            Some(Data::Sum(sum)) => ("updown", &sum.data_points),
            other => panic!("{other:?}"),
        };
        text.push_str(&format!("{} {} {kind}\n", metric.name, metric.unit));
        for point in points {
            let show = |attribute: &opentelemetry_proto::tonic::common::v1::KeyValue| match attribute
                .value
                .as_ref()
                .and_then(|value| value.value.as_ref())
            {
                Some(any_value::Value::StringValue(value)) => format!("{}={value}", attribute.key),
                other => panic!("{other:?}"),
            };
            let attributes: Vec<String> = point.attributes.iter().map(show).collect();
            let value = match point.value {
                Some(Value::AsInt(value)) => value.to_string(),
                Some(Value::AsDouble(value)) => format!("{value:.3}"),
                None => "none".to_owned(),
            };
            let since = if point.start_time_unix_nano == 0 {
                String::new()
            } else {
                format!(" since {}", point.start_time_unix_nano / 1_000_000_000)
            };
            text.push_str(&format!("  {} {value}{since}\n", attributes.join(",")));
        }
    }
    text
}

#[test]
fn an_invented_host_is_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("net")).unwrap();
    for cpu in ["cpu0", "cpu1"] {
        let cpu = dir.path().join("sys/devices/system/cpu").join(cpu);
        std::fs::create_dir_all(cpu.join("topology")).unwrap();
        std::fs::create_dir_all(cpu.join("cpufreq")).unwrap();
        std::fs::write(cpu.join("topology/physical_package_id"), "0\n").unwrap();
        std::fs::write(cpu.join("topology/core_id"), "3\n").unwrap();
        std::fs::write(cpu.join("cpufreq/scaling_cur_freq"), "2400000\n").unwrap();
    }
    for (name, text) in [
        (
            "stat",
            "cpu  10 0 20 300 4 0 1 0 0 0\ncpu0 100 0 200 3000 40 0 10 0 0 0\nintr 1 2\nctxt 77\nbtime 1700000000\nprocesses 42\nprocs_running 2\nprocs_blocked 1\n",
        ),
        ("loadavg", "0.50 0.25 0.10 2/345 6789\n"),
        (
            "meminfo",
            "MemTotal: 1000 kB\nMemFree: 400 kB\nMemAvailable: 700 kB\nBuffers: 50 kB\nCached: 150 kB\nSwapCached: 0 kB\nActive: 0 kB\nInactive: 0 kB\nSwapTotal: 100 kB\nSwapFree: 75 kB\nDirty: 0 kB\nWriteback: 0 kB\nMapped: 0 kB\nSlab: 0 kB\nSReclaimable: 20 kB\nSUnreclaim: 10 kB\nCommitted_AS: 0 kB\nVmallocTotal: 0 kB\nVmallocUsed: 0 kB\nVmallocChunk: 0 kB\n",
        ),
        ("vmstat", "pgpgin 1\npgpgout 2\npswpin 3\npswpout 4\npgfault 100\npgmajfault 10\n"),
        (
            "diskstats",
            " 259 0 nvme0n1 10 1 200 3000 20 2 400 5000 1 6000 8000\n 7 0 loop0 1 0 2 0 0 0 0 0 0 0 0\n 8 0 sda 0 0 0 0 0 0 0 0 0 0 0\n",
        ),
        (
            "net/dev",
            "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\nveth12: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n",
        ),
        (
            "net/tcp",
            "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 0\n   1: 0100007F:1F90 0100007F:D431 01 0\n   2: broken\n",
        ),
        ("uptime", "12345.67 1000.00\n"),
        ("mounts", ""),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let metrics = host(dir.path()).read();
    expect![[r#"
        system.cpu.time s counter
          cpu=cpu0,state=user 1.000 since 1700000000
          cpu=cpu0,state=nice 0.000 since 1700000000
          cpu=cpu0,state=system 2.000 since 1700000000
          cpu=cpu0,state=idle 30.000 since 1700000000
          cpu=cpu0,state=wait 0.400 since 1700000000
          cpu=cpu0,state=interrupt 0.000 since 1700000000
          cpu=cpu0,state=softirq 0.100 since 1700000000
          cpu=cpu0,state=steal 0.000 since 1700000000
        system.cpu.logical.count {cpu} updown
           1 since 1700000000
        system.processes.created {processes} counter
           42 since 1700000000
        system.linux.context_switches {count} counter
           77 since 1700000000
        system.processes.count {processes} updown
          status=running 2 since 1700000000
          status=blocked 1 since 1700000000
        system.cpu.frequency Hz gauge
          cpu=cpu0 2400000000
          cpu=cpu1 2400000000
        system.cpu.physical.count {cpu} updown
           1 since 1700000000
        system.cpu.load_average.1m {thread} gauge
           0.500
        system.cpu.load_average.5m {thread} gauge
           0.250
        system.cpu.load_average.15m {thread} gauge
           0.100
        system.memory.usage By updown
          state=used 389120 since 1700000000
          state=free 409600 since 1700000000
          state=cached 153600 since 1700000000
          state=buffered 51200 since 1700000000
          state=slab_reclaimable 20480 since 1700000000
          state=slab_unreclaimable 10240 since 1700000000
        system.memory.utilization 1 gauge
          state=used 0.380
          state=free 0.400
          state=cached 0.150
          state=buffered 0.050
          state=slab_reclaimable 0.020
          state=slab_unreclaimable 0.010
        system.memory.limit By updown
           1024000 since 1700000000
        system.linux.memory.available By updown
           716800 since 1700000000
        system.paging.usage By updown
          state=used 25600 since 1700000000
          state=free 76800 since 1700000000
          state=cached 0 since 1700000000
        system.paging.utilization 1 gauge
          state=used 0.250
          state=free 0.750
          state=cached 0.000
        system.paging.faults {faults} counter
          type=major 10 since 1700000000
          type=minor 90 since 1700000000
        system.paging.operations {operations} counter
          direction=page_in,type=major 3 since 1700000000
          direction=page_out,type=major 4 since 1700000000
          direction=page_in,type=minor 1 since 1700000000
          direction=page_out,type=minor 2 since 1700000000
        system.disk.io By counter
          device=nvme0n1,direction=read 102400 since 1700000000
          device=nvme0n1,direction=write 204800 since 1700000000
        system.disk.operations {operations} counter
          device=nvme0n1,direction=read 10 since 1700000000
          device=nvme0n1,direction=write 20 since 1700000000
        system.disk.merged {operations} counter
          device=nvme0n1,direction=read 1 since 1700000000
          device=nvme0n1,direction=write 2 since 1700000000
        system.disk.operation_time s counter
          device=nvme0n1,direction=read 3.000 since 1700000000
          device=nvme0n1,direction=write 5.000 since 1700000000
        system.disk.io_time s counter
          device=nvme0n1 6.000 since 1700000000
        system.disk.weighted_io_time s counter
          device=nvme0n1 8.000 since 1700000000
        system.disk.pending_operations {operations} updown
          device=nvme0n1 1 since 1700000000
        system.network.io By counter
          device=eth0,direction=receive 1000 since 1700000000
          device=eth0,direction=transmit 2000 since 1700000000
        system.network.packets {packets} counter
          device=eth0,direction=receive 10 since 1700000000
          device=eth0,direction=transmit 20 since 1700000000
        system.network.errors {errors} counter
          device=eth0,direction=receive 1 since 1700000000
          device=eth0,direction=transmit 3 since 1700000000
        system.network.dropped {packets} counter
          device=eth0,direction=receive 2 since 1700000000
          device=eth0,direction=transmit 4 since 1700000000
        system.network.connections {connections} updown
          protocol=tcp,state=ESTABLISHED 1 since 1700000000
          protocol=tcp,state=SYN_SENT 0 since 1700000000
          protocol=tcp,state=SYN_RECV 0 since 1700000000
          protocol=tcp,state=FIN_WAIT_1 0 since 1700000000
          protocol=tcp,state=FIN_WAIT_2 0 since 1700000000
          protocol=tcp,state=TIME_WAIT 0 since 1700000000
          protocol=tcp,state=CLOSE 0 since 1700000000
          protocol=tcp,state=CLOSE_WAIT 0 since 1700000000
          protocol=tcp,state=LAST_ACK 0 since 1700000000
          protocol=tcp,state=LISTEN 1 since 1700000000
          protocol=tcp,state=CLOSING 0 since 1700000000
        system.linux.threads {threads} updown
           345 since 1700000000
        system.uptime s gauge
           12345.670
    "#]]
    .assert_eq(&print(&metrics, |_| true));
}

#[test]
fn files_that_are_missing_or_broken_leave_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("meminfo"), "what is this\n\u{fffd}").unwrap();
    std::fs::write(
        dir.path().join("stat"),
        b"cpu0 1 x\n\xff\xff\ncpu18446744073709551616 1\nbtime 99999999999999999999\n",
    )
    .unwrap();
    std::fs::write(dir.path().join("diskstats"), "1 2\n259 0 nvme0n1 10 1 200 x\n").unwrap();
    std::fs::write(dir.path().join("uptime"), "5.0 1.0\n").unwrap();
    let host = host(dir.path());
    let text = print(&host.read(), |_| true);
    assert!(text.contains("system.uptime s gauge"), "{text}");
    assert!(text.contains("cpu=cpu0,state=user"), "{text}");
    assert_eq!(host.stats.host_errors.with(&["memory"]).get(), 1);
    assert_eq!(host.stats.host_errors.with(&["filesystem"]).get(), 1);
}

#[test]
fn this_host_is_read_without_an_error() {
    let host = host(std::path::Path::new("/proc"));
    let metrics = host.read();
    assert_eq!(host.stats.host_errors.collect(), vec![]);
    for name in
        ["system.cpu.time", "system.memory.usage", "system.network.io", "system.filesystem.usage", "system.uptime"]
    {
        assert!(print(&metrics, |have| have == name).lines().count() > 1, "{name}");
    }
    let used = print(&metrics, |name| name == "system.memory.utilization");
    assert!(used.contains("state=used 0."), "{used}");
}
