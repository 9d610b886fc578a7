//! The life of a worker process: confinement, warm-up, handshake, and the job that it is assigned.

use crate::outbox::Outbox;
use crate::role::Work;
use crate::watchdog::Watchdog;
use confine::{Child, Mode, Profile, Temporary};
use gstreamer as gst;
use ipc::demux::Source;
use ipc::{Assignment, Decoder, Demux, End, Hello, Message, Ready, Role, Transcode, VERSION};
use model::{Blame, Fault};
use rustix::buffer::spare_capacity;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// Works as the parent assigns it, until it has no more commands. `socket` is the inherited end of a socket pair. To be called while
/// the process has one thread.
///
/// The exit code is success if all work was done or the parent has closed the socket, failure otherwise.
pub fn run<T: Work<Role = Transcode>, D: Work<Role = Demux>>(
    socket: OwnedFd,
    profile: Profile,
    mode: Mode,
) -> ExitCode {
    let socket = UnixStream::from(socket);
    let confined = Child::enter(profile, mode).map_err(|e| io::Error::other(e.text()));
    match confined.and_then(|child| socket.set_nonblocking(false).map(|()| child)).and_then(|c| live::<T, D>(socket, c))
    {
        Ok(code) => code,
        Err(e) => {
            eprintln!("the worker ends: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Lets GStreamer look at its plugins and keep what it finds in the file that `GST_REGISTRY` names. The process meets no stranger's
/// bytes: what it writes is believed by all workers.
pub fn make_registry() -> ExitCode {
    match gst::init() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("this installation has no GStreamer: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Threads: this one reads the socket; one writes it and watches the others; those of the role.
fn live<T: Work<Role = Transcode>, D: Work<Role = Demux>>(
    socket: UnixStream,
    mut child: Child,
) -> io::Result<ExitCode> {
    let outbox = Outbox::new();
    let watch = Watchdog::new(outbox.clone());
    outbox.hello();
    let writer = {
        let (outbox, watch, socket) = (outbox.clone(), watch.clone(), socket.try_clone()?);
        let hangs = move || watch.stuck().map(|thread| format!("the worker hangs ({thread})"));
        std::thread::Builder::new().name("writer".into()).spawn(move || outbox.write_all(socket, hangs))?
    };
    // Nothing of a stranger is read before it is sealed.
    let warm =
        warm_up::<T, D>(child.profile()).and_then(|()| child.seal().map_err(|e| Fault::new(Blame::Us, e.text())));
    let cold = warm.is_err();
    outbox.ready(Ready(warm));
    if cold {
        let _ = writer.join();
        return Ok(ExitCode::FAILURE);
    }
    let mut commands = Commands { socket, decoder: Decoder::default() };
    // If the parent is gone, nothing is worth finishing: the process ends with all of its threads.
    let Some(Hello { version }) = commands.next()? else { return Ok(ExitCode::SUCCESS) };
    if version != VERSION {
        // The program was replaced meanwhile: the next worker is of the parent's version, or there is none.
        return Err(io::Error::other(format!("the parent speaks version {version} and not {VERSION}")));
    }
    let assignment = commands.next()?;
    outbox.assigned();
    let temporary = child.take_temporary();
    match assignment {
        None => return Ok(ExitCode::SUCCESS),
        Some(assignment) if profile_of(&assignment) != child.profile() => {
            return Err(io::Error::other(format!("a worker for {} was given another job", child.profile().as_str())));
        }
        Some(Assignment::Transcode(job)) => work::<T>(job, &mut commands, &outbox, &watch, temporary)?,
        Some(Assignment::Demux(job)) => work::<D>(*job, &mut commands, &outbox, &watch, temporary)?,
    }
    // After the last event the writer has shut the socket down, which is how reading ended; it has nothing left to do.
    Ok(if outbox.ended() == Some(End::Failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What a worker needs for this job.
fn profile_of(assignment: &Assignment) -> Profile {
    match assignment {
        Assignment::Transcode(_) => Profile::Transcode,
        Assignment::Demux(job) => match job.source {
            Source::Url(_) => Profile::DemuxUrl,
            Source::Bytes(_) => Profile::DemuxBytes,
        },
    }
}

/// Loads GStreamer and the plugins of the usual case, so that a first picture need not wait for it.
fn warm_up<T: Work, D: Work>(profile: Profile) -> Result<(), Fault> {
    gst::init().map_err(|e| Fault::new(Blame::Us, format!("this installation has no GStreamer: {e}")))?;
    match profile {
        Profile::Transcode => T::preload(),
        Profile::DemuxUrl | Profile::DemuxBytes => D::preload(),
    }
}

fn work<W: Work>(
    job: <W::Role as Role>::Job,
    commands: &mut Commands,
    outbox: &Outbox,
    watch: &Watchdog,
    temporary: Temporary,
) -> io::Result<()> {
    let no_threads = |e| io::Error::other(format!("the system has no threads left: {e}"));
    let mut work = W::start(job, outbox.events(), watch, temporary).map_err(no_threads)?;
    while let Some(command) = commands.next()? {
        work.command(command);
    }
    Ok(())
}

/// What the parent sends.
struct Commands {
    socket: UnixStream,
    decoder: Decoder,
}

impl Commands {
    /// The next message; `None` when the socket is closed.
    fn next<M: Message>(&mut self) -> io::Result<Option<M>> {
        loop {
            if let Some(message) = self.decoder.next_message().map_err(io::Error::other)? {
                return Ok(Some(message));
            }
            match rustix::io::read(&self.socket, spare_capacity(self.decoder.spare())) {
                Ok(0) | Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}
