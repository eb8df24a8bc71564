import Wire

// Workers come, beat and go.
extension BrokerState {
    mutating func greet(_ session: SessionID, _ hello: Hello, inReplyTo sequence: UInt64, now: Instant) {
        guard hello.minimumMinor == 0 else {
            let problem = "this broker speaks CVB/1.0, worker \(hello.worker) needs at least 1.\(hello.minimumMinor)"
            sendError("version_unsupported", problem, to: session, inReplyTo: sequence)
            return
        }
        var worker = workers[session] ?? Worker(hello: hello, lastHeardAt: now.milliseconds)
        let isNew = workers[session] == nil
        worker.hello = hello
        worker.lastHeardAt = now.milliseconds
        worker.isReachable = true
        worker.freeSlots = 0
        workers[session] = worker
        send(.welcome(welcome), to: session, inReplyTo: sequence)
        if isNew {
            buryPredecessor(of: hello, now: now)
            touchWatched()
        }
    }

    /// The process that had this worker's name is gone, says whoever started the new one: its leases need not run out.
    private mutating func buryPredecessor(of hello: Hello, now: Instant) {
        guard hello.predecessorProcessID != 0, readOnlyReason == nil else { return }
        let gone = workers.filter {
            $0.value.hello.worker == hello.worker && $0.value.hello.processID == hello.predecessorProcessID
        }
        for session in gone.keys.sorted(by: inOrder) {
            workers[session] = nil
            let end = hello.predecessorEnd
            for lease in currentLeases(of: session) {
                release(
                    lease, reason: .expired, code: "worker_lost", message: "its process ended (\(end))",
                    excludesWorker: false, processEnd: end, now: now)
            }
            loseOutputs(heldBy: session, now: now)
        }
    }

    /// A beat is the worker's whole state: what it lists is renewed, what it lists wrongly is answered LEASE_LOST, what
    /// it should list and does not was lost on the way.
    mutating func hear(_ session: SessionID, _ beat: Beat, sequence: UInt64, now: Instant) {
        guard var worker = workers[session] else {
            send(.needHello, to: session, inReplyTo: sequence)
            return
        }
        worker.lastHeardAt = now.milliseconds
        worker.isReachable = true
        if sequence > worker.beatSequence {
            worker.beatSequence = sequence
            worker.freeSlots = min(beat.freeSlots, worker.hello.slots)
            worker.listed = Set(beat.running.map(\.fence))
            if let known = worker.sentAssists.firstIndex(where: { $0.fence == beat.assistedFence }) {
                worker.sentAssists.removeSubrange(...known)
            }
            // Lost on the way.
            worker.sentAssists.removeAll { now.elapsed(since: $0.at) >= configuration.lostAssignmentMilliseconds }
            worker.fetched = beat.fetched
            worker.readyFor = Set(beat.warm)
            worker.previews = beat.previews
            workers[session] = worker
            for running in beat.running { renew(running, of: session, now: now) }
            findLostAssignments(of: session, listed: worker.listed, now: now)
        } else {
            workers[session] = worker
        }
        acknowledgeBeat(of: session, now: now)
    }

    private mutating func acknowledgeBeat(of session: SessionID, now: Instant) {
        guard var worker = workers[session] else { return }
        let batch = worker.releases.prefix(Limits.releasesPerBeat)
        let again = batch.filter { $0.repeats > 1 }.map { (digest: $0.digest, repeats: $0.repeats - 1) }
        worker.releases = Array(worker.releases.dropFirst(batch.count)) + again
        workers[session] = worker
        let acknowledgement = BeatAcknowledgement(
            sequence: worker.beatSequence, drain: worker.isDraining, releases: batch.map(\.digest),
            watched: watchedLeases(of: session, now: now))
        send(.beatAcknowledgement(acknowledgement), to: session, inReplyTo: worker.beatSequence)
    }

    private mutating func renew(_ running: RunningTask, of session: SessionID, now: Instant) {
        let lease = Lease(task: running.task, fence: running.fence)
        guard let task = records.task(of: lease), task.session == session else {
            send(.leaseLost(lease), to: session)
            return
        }
        if task.state == .done {
            send(.committed(lease), to: session)
            return
        }
        guard task.state == .leased, var clock = leases[running.task] else {
            send(.leaseLost(lease), to: session)
            return
        }
        clock.expiresAt = now.milliseconds + configuration.leaseMilliseconds
        clock.isSeen = true
        clock.missingBeats = 0
        clock.note(running, now: now)
        let hasProgress = clock.step != running.step || clock.totalSteps != running.totalSteps
        clock.step = running.step
        clock.totalSteps = running.totalSteps
        leases[running.task] = clock
        if clock.longestStepMilliseconds > 0, hasProgress {
            if let cost = costs[running.task] { workers[session]?.warm.insert(cost.workload) }
        }
        if hasProgress { touchProgress(running.task.job) }
        // The order may have been lost; a worker that has it ignores it.
        if let reason = clock.yieldReason {
            send(.revoke(Revoke(lease: lease, reason: reason, yields: true)), to: session)
        }
        checkProgress(running, lease: lease, clock: clock, session: session, now: now)
    }

    private mutating func findLostAssignments(of session: SessionID, listed: Set<UInt64>, now: Instant) {
        let missing = leases.filter { $0.value.session == session && !listed.contains($0.value.fence) }
        for (id, clock) in missing.sorted(by: { inOrder($0.key, $1.key) }) {
            leases[id]?.missingBeats = clock.missingBeats + 1
            // Beats that left the worker before the assignment reached it do not list it either: until it has been
            // listed once, only time tells them from a loss.
            let isTooEarly = now.elapsed(since: clock.grantedAt) < configuration.lostAssignmentMilliseconds
            guard readOnlyReason == nil, clock.missingBeats + 1 >= 2, clock.isSeen || !isTooEarly else { continue }
            let lease = Lease(task: id, fence: clock.fence)
            if clock.isSeen {
                release(
                    lease, reason: .dropped, code: "dropped", message: "the worker gave the task up",
                    excludesWorker: false, now: now)
            } else {
                release(
                    lease, reason: .assignLost, code: "assign_lost", message: "the assignment did not arrive",
                    excludesWorker: false, now: now)
            }
        }
    }

    /// GOODBYE: the leases go to others at once and nothing is held against the tasks.
    mutating func dismiss(_ session: SessionID, reason: LeaseEnd.Reason, now: Instant) {
        guard workers[session] != nil else { return }
        workers[session] = nil
        if readOnlyReason == nil {
            for lease in currentLeases(of: session) {
                release(
                    lease, reason: reason, code: "goodbye", message: "the worker shut down", excludesWorker: false,
                    now: now)
            }
            loseOutputs(heldBy: session, now: now)
        }
        touchWatched()
    }

    /// A message to the session did not leave. An assignment that no beat has listed certainly did not arrive.
    mutating func lostContact(_ session: SessionID, now: Instant) {
        for job in Array(watchers.keys) {
            watchers[job]?.remove(session)
            if watchers[job]?.isEmpty == true {
                watchers[job] = nil
                lastPushAt[job] = nil
            }
        }
        for job in previewWatchers.keys {
            previewWatchers[job]?[session] = nil
            if previewWatchers[job]?.isEmpty == true { previewWatchers[job] = nil }
        }
        guard workers[session] != nil else { return }
        workers[session]?.isReachable = false
        guard readOnlyReason == nil else { return }
        for lease in currentLeases(of: session) where leases[lease.task]?.isSeen == false {
            release(
                lease, reason: .assignLost, code: "assign_lost", message: "the worker could not be reached",
                excludesWorker: false, now: now)
        }
    }

    func currentLeases(of session: SessionID) -> [Lease] {
        leases.filter { $0.value.session == session }
            .map { Lease(task: $0.key, fence: $0.value.fence) }
            .sorted { $0.fence < $1.fence }
    }

    mutating func expireLeases(_ now: Instant) {
        let expired = leases.filter { $0.value.expiresAt <= now.milliseconds }
            .map { Lease(task: $0.key, fence: $0.value.fence) }
            .sorted { $0.fence < $1.fence }
        for lease in expired where leases[lease.task] != nil {
            let message = "the worker was not heard for \(configuration.leaseMilliseconds) ms"
            release(lease, reason: .expired, code: "worker_lost", message: message, excludesWorker: false, now: now)
        }
    }

    mutating func dismissSilentWorkers(_ now: Instant) {
        let silent = workers.filter { now.elapsed(since: $0.value.lastHeardAt) >= configuration.leaseMilliseconds }.keys
        guard !silent.isEmpty else { return }
        for session in silent.sorted(by: inOrder) {
            workers[session] = nil
            if readOnlyReason == nil { loseOutputs(heldBy: session, now: now) }
        }
        touchWatched()
    }

    /// Non-durable outputs died with their worker: run their producers again before a consumer tries in vain.
    /// A consumer that is already at work may have fetched them; it will say if not.
    private mutating func loseOutputs(heldBy session: SessionID, now: Instant) {
        for id in index.jobsUnderWay {
            guard let job = records.jobs[id] else { continue }
            let lost = job.tasks.filter { task in
                guard task.state == .done, task.session == session, !task.specification.durableOutputs,
                    !task.areOutputsReleased
                else { return false }
                let name = task.specification.name
                return !job.tasks.contains { $0.state == .leased && $0.producers.contains(name) }
            }
            guard !lost.isEmpty else { continue }
            let producers = lost.map(\.specification.name)
            commit(.outputsLost(OutputLoss(job: id, producers: producers, consumer: nil)), now: now)
        }
    }
}
