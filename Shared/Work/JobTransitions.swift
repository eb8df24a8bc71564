import Wire

// How each entry changes a job. Every function first checks that the entry still fits the job, so that folding a journal
// twice or out of turn cannot invent a state.
extension JobRecord {
    /// READY → LEASED.
    mutating func grant(_ grant: LeaseGrant) {
        guard !state.isTerminal, let index = index(of: grant.lease.task.name), tasks[index].state == .ready,
            grant.lease.fence > tasks[index].fence
        else { return }
        state = .running
        tasks[index].state = .leased
        tasks[index].fence = grant.lease.fence
        tasks[index].attempts += 1
        tasks[index].worker = grant.worker
        tasks[index].session = grant.session
        tasks[index].numerics = grant.numerics
        if tasks[index].checkpoint != nil, tasks[index].checkpointNumerics != grant.numerics {
            tasks[index].isResumedElsewhere = true
        }
        tasks[index].grantedUnixMilliseconds = grant.unixMilliseconds
        tasks[index].endedUnixMilliseconds = 0
    }

    mutating func commit(_ commit: CheckpointCommit) {
        guard let index = leasedIndex(commit.lease), commit.step > tasks[index].checkpointStep else { return }
        tasks[index].earlierCheckpoint = tasks[index].checkpoint.map {
            CheckpointMark(step: tasks[index].checkpointStep, ref: $0)
        }
        tasks[index].checkpoint = commit.ref
        tasks[index].checkpointStep = commit.step
        tasks[index].checkpointNumerics = tasks[index].numerics
    }

    /// LEASED → DONE; successors become READY, and with the last task the job is DONE.
    mutating func complete(_ completion: TaskCompletion) {
        guard let index = leasedIndex(completion.lease) else { return }
        tasks[index].state = .done
        tasks[index].outputs = completion.outputs
        tasks[index].areOutputsReleased = false
        tasks[index].elapsedMilliseconds = completion.elapsedMilliseconds
        tasks[index].notes = completion.notes
        tasks[index].manner = completion.manner
        tasks[index].endedUnixMilliseconds = completion.unixMilliseconds
        tasks[index].lastProblem = ""
        dropCheckpoint(index)
        refreshReadiness()
        if tasks.allSatisfy({ $0.state == .done }) {
            state = .done
            finishedUnixMilliseconds = completion.unixMilliseconds
        }
    }

    /// LEASED → READY.
    mutating func end(_ end: LeaseEnd) {
        guard let index = leasedIndex(end.lease) else { return }
        tasks[index].state = .ready
        switch end.reason {
        case .expired: tasks[index].crashes += 1
        case .failed, .stalled: tasks[index].failures += 1
        case .dropped: break
        case .refused, .assignLost, .goodbye, .yielded: tasks[index].attempts -= min(1, tasks[index].attempts)
        }
        if let failureClass = end.failureClass {
            tasks[index].failureClasses = tasks[index].failureClasses ?? [:]
            tasks[index].failureClasses?[failureClass, default: 0] += 1
        }
        if !end.reason.givesAttemptBack, let evidence = end.evidence {
            tasks[index].note(end.reason, code: end.code, message: end.message, evidence: evidence)
        }
        let worker = tasks[index].worker
        if end.excludesWorker, !tasks[index].excludedWorkers.contains(worker) {
            tasks[index].excludedWorkers.append(worker)
        }
        tasks[index].lastProblem = "\(worker): \(end.message)"
        refreshReadiness()
    }

    /// The producers run again, with all that is needed for it; the consumer waits.
    mutating func lose(_ loss: OutputLoss) {
        guard !state.isTerminal else { return }
        if let lease = loss.consumer {
            guard let index = leasedIndex(lease) else { return }
            tasks[index].state = .blocked
            tasks[index].failures = 0
            tasks[index].failureClasses = nil
            tasks[index].lastProblem =
                "\(tasks[index].worker): inputs from \(loss.producers.joined(separator: ", ")) were lost"
        }
        var queue = loss.producers
        while let name = queue.popLast() {
            guard let index = index(of: name), tasks[index].state == .done else { continue }
            tasks[index].state = .blocked
            tasks[index].outputs = []
            tasks[index].areOutputsReleased = false
            tasks[index].isResumedElsewhere = false
            tasks[index].manner = nil
            tasks[index].lastProblem = "\(tasks[index].worker): outputs were lost before they were used"
            // A producer of the producer that kept its outputs in memory has let go of them long since.
            queue += tasks[index].producers.filter { task($0)?.areOutputsReleased == true }
        }
        refreshReadiness()
    }

    /// FAILED, DEAD or CANCELLED: nothing of the job runs any more, what is done stays done. Unless nobody wants it any
    /// more the checkpoints stay too, for a retry.
    mutating func end(_ end: JobEnd) {
        guard !state.isTerminal, end.state.isTerminal else { return }
        state = end.state
        errorCode = end.code
        errorMessage = end.message
        finishedUnixMilliseconds = end.unixMilliseconds
        endedBy = end.task
        for index in tasks.indices where tasks[index].state != .done {
            let isCause = tasks[index].specification.name == end.task
            if tasks[index].state == .leased {
                tasks[index].endedUnixMilliseconds = end.unixMilliseconds
                if isCause, let evidence = end.evidence {
                    tasks[index].note(.failed, code: end.code, message: end.message, evidence: evidence)
                }
            }
            tasks[index].state = isCause ? .dead : .cancelled
            if end.state == .cancelled { dropCheckpoint(index) }
        }
    }

    mutating func move(_ move: DeadlineMove) {
        guard !state.isTerminal, deadline != nil else { return }
        deadline = move.deadline
    }

    private func leasedIndex(_ lease: Lease) -> Int? {
        guard let index = index(of: lease.task.name), tasks[index].state == .leased, tasks[index].fence == lease.fence
        else { return nil }
        return index
    }

    private mutating func dropCheckpoint(_ index: Int) {
        tasks[index].checkpoint = nil
        tasks[index].checkpointStep = 0
        tasks[index].checkpointNumerics = ""
        tasks[index].earlierCheckpoint = nil
    }
}
