//! The browser story: the web demo, as built, in a real Chromium, with a chaos proxy in its wire.

use super::install;
use super::steps::{self, Told};
use crate::progress::Log;
use crate::{npm, workspace};
use anyhow::{Result, bail};

pub fn story(log: &Log) -> Result<Told> {
    let Some(chromium) = install::find_chromium() else {
        bail!(
            "no Chromium: sudo apt-get install chromium (Ubuntu: sudo snap install chromium), or name one in CHROMIUM"
        );
    };
    steps::build(log)?;
    let mut story = npm::script(&workspace::web_demo(), "test");
    log.run(story.env("CHROMIUM", chromium).env("ANABRANCH_DEMO", workspace::built("demo")))?;
    Ok(Told::Runner)
}
