//! The browser story: the npm package and the web demo, as built, in a real Chromium, with a proxy in their wire that cuts it.

use super::install;
use super::steps::{self, Told};
use crate::progress::Log;
use crate::{npm, workspace};
use anabranch_brokers::{Unavailable, shared};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// The package as a customer has it: `npm pack`, then Node, a script tag, Vite, webpack and Next.js.
pub fn packages(log: &Log) -> Result<Told> {
    let chromium = chromium()?;
    steps::build(log)?;
    let mut samples = npm::script(&workspace::npm_package(), "test:packages");
    log.run(samples.env("CHROMIUM", &chromium).env("ANABRANCH_BIN", workspace::built("anabranch")))?;
    Ok(Told::Runner)
}

/// The Chromium that tests run, or what to install.
pub fn chromium() -> Result<PathBuf> {
    let Some(chromium) = install::find_chromium() else {
        bail!(
            "no Chromium: sudo apt-get install chromium (Ubuntu: sudo snap install chromium), or name one in CHROMIUM"
        );
    };
    Ok(chromium)
}

pub fn story(log: &Log) -> Result<Told> {
    let chromium = chromium()?;
    steps::build(log)?;
    let mut package = npm::script(&workspace::npm_package(), "test:browser");
    package.env("ANABRANCH_DEVICE", workspace::built("served-device"));
    log.run(package.env("CHROMIUM", &chromium).env("ANABRANCH_BIN", workspace::built("anabranch")))?;
    let mut story = npm::script(&workspace::web_demo(), "test");
    log.run(story.env("CHROMIUM", &chromium).env("ANABRANCH_DEMO", workspace::built("demo")))?;
    mqtt(log, &chromium)?;
    Ok(Told::Runner)
}

/// The page shows a device that speaks MQTT to RabbitMQ. Where there is no RabbitMQ, that is said, and fails in CI.
fn mqtt(log: &Log, chromium: &Path) -> Result<()> {
    let missing = match shared::rabbitmq() {
        Ok(server) if install::on_path("mosquitto_pub").is_some() => {
            let mut story = npm::script(&workspace::web_demo(), "test:mqtt");
            story.env("CHROMIUM", chromium).env("ANABRANCH_DEMO", workspace::built("demo"));
            story.env("ANABRANCH_RABBITMQ", server.url());
            return log.run(story.env("ANABRANCH_MQTT_PORT", server.mqtt_port().to_string()));
        }
        Ok(_) => {
            "mosquitto_pub is not installed; get it with: sudo apt-get install mosquitto-clients".to_string()
        }
        Err(why @ Unavailable::Missing { .. }) => why.to_string(),
        Err(why) => return Err(why.into()),
    };
    if std::env::var("CI").as_deref() == Ok("true") {
        bail!("the page's MQTT story is not run, because {missing}");
    }
    log.line(&format!("the page's MQTT story is not run, because {missing}"));
    Ok(())
}
