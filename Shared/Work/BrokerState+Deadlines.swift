import Wire

// Jobs that are wanted by a certain time: whether that can be kept, who goes first for it, and what happens when it passes.
extension BrokerState {
    /// The volatile half of a deadline.
    struct DeadlineClock: Sendable {
        /// How much the job is pressed for time.
        enum Pressure: Sendable {
            /// By forecast it ends in time where it stands.
            case none
            /// Nobody can say: it counts as at risk.
            case unknown
            /// A forecast had it end too late where it stood; that stays.
            case atRisk
        }

        /// Reading of `Instant.milliseconds`.
        var at: UInt64
        var pressure: Pressure

        /// Milliseconds until then; 0 when it has passed.
        func left(_ now: Instant) -> UInt64 { at > now.milliseconds ? at - now.milliseconds : 0 }
    }

    /// How often the jobs with deadlines are compared with the forecast.
    private static let assessmentMilliseconds: UInt64 = 1000

    /// What a forecast may be short by, in hundredths: 95 of 100 are right within a fifth.
    private static let marginHundredths: UInt64 = 120

    /// When the job must be done, for a job that goes before others of its tenant because of it; the later of all
    /// possible times for every other job.
    func pressingDeadline(of job: String) -> UInt64 {
        guard let clock = deadlines[job], clock.pressure != .none else { return .max }
        return clock.at
    }

    /// Begins a job's clock: at its acceptance, and when the broker starts.
    mutating func startDeadline(of job: JobRecord, _ pressure: DeadlineClock.Pressure, now: Instant) {
        guard let deadline = job.deadline, !job.state.isTerminal else { return }
        let left = deadline.left(
            now: now, boot: configuration.boot, grace: configuration.deadlineGraceMilliseconds)
        deadlines[job.job] = DeadlineClock(at: now.milliseconds + left, pressure: pressure)
        nextDeadlineAt = min(nextDeadlineAt, now.milliseconds + left)
        reindex(job.job)
    }

    /// What is measured says about a deadline that is asked for.
    enum Prospect {
        case reachable, unknown
        case unreachable(Refusal)
    }

    /// Whether the job can be ready in time by what was measured: behind those of its tenant that are wanted sooner, and
    /// before the others.
    mutating func prospect(of acceptance: JobAcceptance, now: Instant) -> Prospect {
        guard let deadline = acceptance.deadline else { return .reachable }
        let job = JobRecord(acceptance, ordinal: records.lastOrdinal + 1)
        guard let end = foretell(job, now: now) else { return .unknown }
        guard end > deadline.milliseconds else { return .reachable }
        let message =
            "the job would be ready in about \(seconds(end)) s, its deadline is in \(seconds(deadline.milliseconds)) s"
        return .unreachable(Refusal(code: "deadline_unreachable", message: message))
    }

    private func seconds(_ milliseconds: UInt64) -> UInt64 { (milliseconds + 999) / 1000 }

    /// Fails the jobs that nobody waits for any more; what runs of them is taken back at its next step.
    mutating func endLateJobs(_ now: Instant) {
        guard now.milliseconds >= nextDeadlineAt else { return }
        for (id, clock) in deadlines.sorted(by: { ($0.value.at, $0.key) < ($1.value.at, $1.key) }) {
            guard clock.at <= now.milliseconds else { break }
            guard let job = records.jobs[id], let deadline = job.deadline, !job.state.isTerminal else {
                deadlines[id] = nil
                continue
            }
            let done = job.tasks.count { $0.state == .done }
            endJob(
                id, .failed, task: nil, code: "deadline_exceeded",
                message: "the deadline of \(seconds(deadline.milliseconds)) s passed with \(done) of "
                    + "\(job.tasks.count) tasks done", now: now)
        }
        nextDeadlineAt = deadlines.values.map(\.at).min() ?? .max
    }

    /// Finds out whose deadline is at risk.
    mutating func assessDeadlines(_ now: Instant) {
        guard !deadlines.isEmpty, now.milliseconds >= nextAssessmentAt else { return }
        nextAssessmentAt = now.milliseconds + Self.assessmentMilliseconds
        prepareForecast(now)
        let wasStale = isForecastStale
        for (id, clock) in deadlines where clock.pressure != .atRisk {
            let pressure: DeadlineClock.Pressure
            if let end = forecast?.remaining[id] {
                pressure = end * Self.marginHundredths / 100 > clock.left(now) ? .atRisk : .none
            } else {
                // A long queue's forecast does not know the newest jobs yet.
                pressure = wasStale ? clock.pressure : .unknown
            }
            guard pressure != clock.pressure else { continue }
            deadlines[id]?.pressure = pressure
            reindex(id)
            isForecastStale = true
            touchProgress(id)
        }
    }

    /// Writes down by the clocks of this run of the machine what was read by the wall clock at the start, so that the
    /// next start of the broker need not trust it again.
    mutating func moveDeadlines(_ now: Instant) {
        guard hasForeignDeadlines else { return }
        hasForeignDeadlines = false
        for (id, clock) in deadlines.sorted(by: { $0.key < $1.key }) {
            guard let deadline = records.jobs[id]?.deadline, deadline.boot != configuration.boot else { continue }
            let moved = deadline.moved(to: now, left: clock.left(now), boot: configuration.boot)
            commit(.deadlineMoved(DeadlineMove(job: id, deadline: moved)), now: now)
        }
    }
}
