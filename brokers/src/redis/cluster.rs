//! A Redis Cluster of primaries, each with its share of the slots.

use super::{Redis, RedisOptions};
use crate::unavailable::Unavailable;
use crate::wait::until;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Several servers that share the keys. They end when this is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    /// Without replicas: what a killed one held is away until it is restarted.
    pub nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts so many servers (Redis asks for three at least), each in a folder of its own under `folder`, and returns
    /// when all of them say that all slots are served.
    pub fn start(folder: impl AsRef<Path>, nodes: usize) -> Result<RedisCluster, Unavailable> {
        let start = |number: usize| {
            let options = RedisOptions::new(folder.as_ref().join(number.to_string()));
            Redis::start(options.line("cluster-enabled yes").line("cluster-node-timeout 2000"))
        };
        let cluster = RedisCluster { nodes: (0..nodes).map(start).collect::<Result<_, _>>()? };
        cluster.join()?;
        until("the cluster serves all slots", Duration::from_secs(60), || {
            Ok(cluster.is_ready().then_some(()))
        })?;
        Ok(cluster)
    }

    /// One URL for each node.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// All nodes agree that all slots are served.
    pub fn is_ready(&self) -> bool {
        let ok = |node: &Redis| {
            node.cli(&["CLUSTER", "INFO"]).is_ok_and(|info| {
                info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
            })
        };
        self.nodes.iter().all(ok)
    }

    fn join(&self) -> Result<(), Unavailable> {
        let mut command = Command::new(super::program("redis-cli")?);
        command.args(["--cluster", "create"]);
        command.args(self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())));
        let output = command.args(["--cluster-replicas", "0", "--cluster-yes"]).stdin(Stdio::null()).output();
        let output =
            output.map_err(|error| Unavailable::failed(format!("redis-cli could not be run: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stdout);
        Err(Unavailable::failed(format!("redis-cli --cluster create: {}", said.trim())))
    }
}
