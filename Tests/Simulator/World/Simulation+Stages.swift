import Failure
import Wire
import Work

/// One task on a worker, from fetching its inputs to storing its outputs.
struct StageRun {
    enum Phase { case fetching(Int), computing, storing, yielding }

    let assign: Assign
    let startedAt: UInt64
    var phase = Phase.fetching(0)
    var step: UInt32
    var tries = 0
    var isCancelled = false
    /// Hands back at its next step, if it is a stage that can.
    var yields = false
    var isHung = false
    /// Computed with damaged bytes: what comes out is damaged too.
    var isDamaged = false

    /// Whether another worker can go on from a step of it.
    var isResumable: Bool { assign.stage == "denoiser" }

    init(assign: Assign, step: UInt32, startedAt: UInt64) {
        self.assign = assign
        self.startedAt = startedAt
        self.step = step
    }
}

/// What a fetch finds.
private enum Fetched { case intact, damaged, missing, unreachable }

// The stages: what `TaskRun` and a handler do with a task.
extension Simulation {
    /// Steps of the stage's own work.
    func steps(of assign: Assign) -> UInt32 {
        history.jobs[assign.lease.task.job].map { plans[$0.plan].steps(of: assign.stage) } ?? 1
    }

    mutating func advance(_ number: Int, run: Int, fence: UInt64) {
        guard isRunning(number, run) else { return }
        let worker = workers[number]
        guard let index = worker.runs.firstIndex(where: { $0.assign.lease.fence == fence }) else { return }
        let stage = worker.runs[index]
        guard worker.frozenUntil <= now else {
            return queue.push(.stage(number, run: run, fence: fence), at: worker.frozenUntil)
        }
        let lease = stage.assign.lease
        if stage.isCancelled { return conclude(number, lease, .stopped(lease)) }
        switch stage.phase {
        case .fetching(let input): fetch(input, number, index)
        case .computing: compute(number, index)
        case .storing: storeOutput(number, index)
        case .yielding:
            storeCheckpoint(number, run: run, lease, step: stage.step)
            conclude(number, lease, .stopped(lease))
        }
    }

    private mutating func again(_ number: Int, _ fence: UInt64, after delay: UInt64) {
        schedule(.stage(number, run: workers[number].run, fence: fence), after: delay)
    }

    private mutating func conclude(_ number: Int, _ lease: Lease, _ event: WorkerEvent) {
        let worker = workers[number]
        if let index = worker.index(of: lease) { worker.runs.remove(at: index) }
        if case .finished = event { worker.unconfirmed.insert(lease) }
        act(number, event)
    }

    // MARK: Fetching

    /// Inputs in turn, then the newest checkpoint, then the one before it. Where none can be had it starts from the
    /// beginning.
    private mutating func fetch(_ input: Int, _ number: Int, _ index: Int) {
        let worker = workers[number]
        let assign = worker.runs[index].assign
        let lease = assign.lease
        let isCheckpoint = input >= assign.inputs.count
        let checkpoints = [assign.checkpoint, assign.earlierCheckpoint].compactMap { $0 }
        let turn = input - assign.inputs.count
        guard !isCheckpoint || turn < checkpoints.count else { return beginComputing(number, index) }
        let ref = isCheckpoint ? checkpoints[turn] : assign.inputs[input].ref
        let found = look(for: ref, number, lease)
        switch found {
        case .intact: break
        case .damaged where !rules.digestsAreChecked: worker.runs[index].isDamaged = true
        case .unreachable where worker.runs[index].tries < 6:
            worker.runs[index].tries += 1
            return again(number, lease.fence, after: 500)
        case .damaged, .missing, .unreachable:
            if isCheckpoint {
                worker.runs[index].tries = 0
                worker.runs[index].step = turn == 0 ? assign.earlierCheckpointStep : 0
                worker.runs[index].phase = .fetching(input + 1)
                return again(number, lease.fence, after: 1)
            }
            let name = assign.inputs[input].name
            let failure = Failure("input_missing", "no location serves \(name)", retry: .otherWorker)
            return conclude(number, lease, .failed(lease, failure, missingInputs: [name]))
        }
        worker.runs[index].tries = 0
        if isCheckpoint { return beginComputing(number, index) }
        worker.runs[index].phase = .fetching(input + 1)
        again(number, lease.fence, after: random.between(5...80))
    }

    private mutating func beginComputing(_ number: Int, _ index: Int) {
        workers[number].runs[index].phase = .computing
        askForHelp(number, workers[number].runs[index].assign)
        again(number, workers[number].runs[index].assign.lease.fence, after: stepTime())
    }

    private mutating func stepTime() -> UInt64 { random.between(50...600) }

    private mutating func look(for ref: TensorRef, _ number: Int, _ lease: Lease) -> Fetched {
        guard let content = Content(ref.digest) else { return .damaged }
        guard let holder = ref.locations.first, case .tcp(_, let port) = holder else {
            guard let broker, broker.frozenUntil <= now, links[number].data <= now else { return .unreachable }
            guard let blob = store[content] else {
                blame("blob \(content.description), an input of \(lease.task), is not in the store", content, lease)
                return .missing
            }
            return blob.isTorn ? .damaged : .intact
        }
        let other = workers[Int(port) / 256]
        guard other.isAlive, other.run & 255 == Int(port) & 255 else { return .missing }
        let isCut = links[number].data > now || links[Int(port) / 256].data > now
        guard !isCut, other.frozenUntil <= now else { return .unreachable }
        guard other.frames.contains(content) else {
            // A late release of the same bytes for another task can take them; that needs a message out of order.
            if isOrdered {
                let place = "the memory of \(other.hello.worker)"
                blame("blob \(content.description), an input of \(lease.task), is not in \(place)", content, lease)
            }
            return .missing
        }
        return .intact
    }

    /// A blob that no fault has touched and that the holder of a current lease misses was removed too early.
    private mutating func blame(_ detail: String, _ content: Content, _ lease: Lease) {
        note(detail)
        if !harmed.contains(content), history.isOpen(lease) { history.violate(.neededBlobsStay, detail) }
    }

    // MARK: Computing

    private mutating func compute(_ number: Int, _ index: Int) {
        let worker = workers[number]
        let assign = worker.runs[index].assign
        let lease = assign.lease
        guard let job = history.jobs[lease.task.job], let task = job.index(of: lease.task.name) else { return }
        switch plans[job.plan].nature {
        case .poison(let victim) where victim == task && worker.runs[index].step + 1 >= steps(of: assign):
            count(.poisonJob)
            return killWorker(number)
        case .hopeless(let victim) where victim == task:
            count(.hopelessJob)
            let failure = Failure("not_finite", "the result has NaN", retry: .never)
            return conclude(number, lease, .failed(lease, failure, missingInputs: []))
        default: break
        }
        if isFaulty, random.chance(plan.stageFailure) {
            count(.stageFailure)
            let retry: Failure.Retry = [.sameWorker, .otherWorker, .biggerWorker][random.below(3)]
            let failure = Failure("broken", "by chance", retry: retry)
            return conclude(number, lease, .failed(lease, failure, missingInputs: []))
        }
        if isFaulty, random.chance(plan.hang) {
            count(.hangingStage)
            worker.runs[index].isHung = true
            return
        }
        worker.runs[index].step += 1
        let step = worker.runs[index].step
        guard step >= steps(of: assign) else {
            if worker.runs[index].isResumable {
                if worker.runs[index].yields {
                    worker.runs[index].phase = .yielding
                    return again(number, lease.fence, after: random.between(2...200))
                }
                schedule(.checkpoint(number, run: worker.run, lease, step: step), after: random.between(2...200))
            }
            return again(number, lease.fence, after: stepTime())
        }
        worker.runs[index].phase = .storing
        again(number, lease.fence, after: random.between(1...60))
    }

    // MARK: Storing

    private enum Stored { case done, full, unreachable }

    /// STORED: the blob is whole and on the broker's disk.
    private mutating func put(_ content: Content, _ number: Int) -> Stored {
        guard let broker, broker.frozenUntil <= now, links[number].data <= now else { return .unreachable }
        guard !ledger.isFull else { return .full }
        bring(content)
        return .done
    }

    mutating func storeCheckpoint(_ number: Int, run: Int, _ lease: Lease, step: UInt32) {
        guard isRunning(number, run), let job = history.jobs[lease.task.job],
            let task = job.index(of: lease.task.name)
        else { return }
        let worker = workers[number]
        guard worker.frozenUntil <= now else {
            return queue.push(.checkpoint(number, run: run, lease, step: step), at: worker.frozenUntil)
        }
        guard let index = worker.index(of: lease), !worker.runs[index].isCancelled else { return }
        let content = made(Content(body: job.body, task: task, step: Int(step)), worker.runs[index])
        guard put(content, number) == .done else { return }
        act(number, .checkpointStored(lease, step: step, ref: content.ref(at: [])))
    }

    private func made(_ content: Content, _ run: StageRun) -> Content { run.isDamaged ? content.damaged : content }

    private mutating func storeOutput(_ number: Int, _ index: Int) {
        let worker = workers[number]
        let run = worker.runs[index]
        let lease = run.assign.lease
        guard let job = history.jobs[lease.task.job], let task = job.index(of: lease.task.name) else { return }
        let content = made(Content(body: job.body, task: task, step: 255), run)
        var locations: [Location] = []
        if run.assign.durableOutputs {
            let outcome = put(content, number)
            if outcome != .done {
                guard run.tries < 40 else {
                    let code = outcome == .full ? "store_full" : "store_unreachable"
                    let failure = Failure(code, "it would not take the result", retry: .sameWorker)
                    return conclude(number, lease, .failed(lease, failure, missingInputs: []))
                }
                worker.runs[index].tries += 1
                return again(number, lease.fence, after: 300)
            }
        } else {
            worker.frames.insert(content)
            locations = [.tcp(address: "10.0.0.1", port: UInt16(number * 256 + worker.run & 255))]
        }
        let outputs = [NamedRef(name: "out", ref: content.ref(at: locations))]
        conclude(number, lease, .finished(lease, outputs: outputs, elapsedMilliseconds: now - run.startedAt, notes: []))
    }
}
