//! Real worker processes: started, hung, killed. The worker is a shell, which knows nothing of media, but lives and dies like
//! one.

use confine::Mode;
use ipc::transcode::Job;
use model::{AudioPreset, EncodedVideo};
use session::workers::{FromWorker, Gone, Pool, Program, Workers, registry};
use std::time::Duration;

fn job() -> Job {
    Job { video_codec: EncodedVideo::H264, max_frame_rate: 30.0, audio: AudioPreset::OpusStereo96k.encoding() }
}

fn pool(program: &str, arguments: &[&str], keep_warm: bool) -> Pool {
    Pool::new(Program::new(program, arguments, Mode::Auto), keep_warm)
}

async fn end_of(script: &str) -> String {
    let pool = pool("/bin/sh", &["-c", script], false);
    let mut worker = pool.transcode(job()).unwrap();
    loop {
        match tokio::time::timeout(Duration::from_secs(20), worker.recv()).await.expect("it ends") {
            FromWorker::Gone(Gone::NotStarted(how) | Gone::Crashed(how)) => return how,
            FromWorker::Event(_) => {}
        }
    }
}

#[tokio::test]
async fn how_a_worker_ended_is_reported() {
    let how = end_of("exec 0<&- 1>&-; exit 3").await;
    assert!(how.contains("exit status: 3"), "{how}");
    let how = end_of("kill -9 $$").await;
    assert!(how.contains("SIGKILL"), "{how}");
    let how = end_of("printf '\\377\\377\\377\\377' >&0; sleep 60").await;
    assert!(how.contains("invalid message"), "{how}");
}

#[tokio::test]
async fn the_end_by_confinement_is_named_and_counted() {
    let pool = pool("/bin/sh", &["-c", "kill -SYS $$"], false);
    let mut worker = pool.transcode(job()).unwrap();
    let gone = tokio::time::timeout(Duration::from_secs(20), worker.recv()).await.expect("it ends");
    assert!(
        matches!(&gone, FromWorker::Gone(Gone::NotStarted(how)) if how.contains("its own confinement")),
        "{gone:?}"
    );
    assert_eq!(pool.killed_by_confinement(), 1);
}

#[tokio::test]
async fn a_registry_is_read_by_all_and_written_by_none() {
    let arguments = ["-c", "printf plugins > $GST_REGISTRY"].map(str::to_owned);
    let registry = registry::make("/bin/sh".as_ref(), &arguments).await.unwrap();
    let script = "test $(cat $GST_REGISTRY) = plugins || exit 1; { echo x > $GST_REGISTRY; } 2> /dev/null && exit 2; \
                  test $(cat $GST_REGISTRY) = plugins || exit 3; test $GST_REGISTRY_UPDATE$GST_REGISTRY_FORK = nono || exit 4; \
                  exit 40";
    let program = Program::new("/bin/sh", &["-c", script], Mode::Auto);
    program.share(registry);
    let mut worker = Pool::new(program, false).transcode(job()).unwrap();
    let gone = tokio::time::timeout(Duration::from_secs(20), worker.recv()).await.expect("it ends");
    assert!(matches!(&gone, FromWorker::Gone(Gone::NotStarted(how)) if how.contains("exit status: 40")), "{gone:?}");
    let failing = ["-c", "exit 7"].map(str::to_owned);
    assert!(
        registry::make("/bin/sh".as_ref(), &failing).await.is_err_and(|e| e.to_string().contains("exit status: 7"))
    );
}

#[tokio::test]
async fn a_stopped_worker_is_killed() {
    let how = end_of("kill -STOP $$; sleep 60").await;
    assert!(how.contains("hung for") && how.contains("SIGKILL"), "{how}");
}

#[tokio::test]
async fn a_worker_in_a_loop_is_killed() {
    let how = end_of("while :; do :; done").await;
    assert!(how.contains("hung for") && how.contains("SIGKILL"), "{how}");
}

#[tokio::test]
async fn a_dropped_worker_leaves_no_process() {
    let pool = pool("/bin/sh", &["-c", "sleep 60 & wait"], false);
    let worker = pool.transcode(job()).unwrap();
    let pid = worker.pid().unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    drop(worker);
    for _ in 0..500 {
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the worker {pid} is still there");
}

#[tokio::test]
async fn a_worker_sees_no_secret() {
    // Cargo puts dozens of variables into a test's environment; a worker has only what it needs.
    assert!(std::env::vars().any(|(k, _)| k.starts_with("CARGO_")));
    let how = end_of("exit $(env | grep -c CARGO_)").await;
    assert!(how.contains("exit status: 0"), "{how}");
}

#[tokio::test]
async fn one_worker_waits_warm_until_the_pool_closes() {
    let dir = std::env::temp_dir().join(format!("pool-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let started = || std::fs::read_dir(&dir).unwrap().count();
    let script = format!("touch {}/$$; read line; sleep 60", dir.display());
    let pool = pool("/bin/sh", &["-c", &script], true);
    let until = async |n: usize| {
        while started() < n {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until(1)).await.expect("one waits");
    let taken: Vec<_> = (0..3).map(|_| pool.transcode(job()).unwrap()).collect();
    tokio::time::timeout(Duration::from_secs(20), until(4)).await.expect("another waits");
    let last = pool.transcode(job()).unwrap();
    pool.close();
    // Longer than the next would take to come.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(started(), 4, "one for each that was taken, the last of which had waited");
    drop((taken, last));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_missing_program_is_an_error() {
    let pool = pool("/nonexistent/ingress", &[], false);
    assert!(pool.transcode(job()).is_err());
}
