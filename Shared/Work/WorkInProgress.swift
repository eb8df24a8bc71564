import Wire

// Finish-first between stages: no stage runs far ahead of the one that reads its outputs.
extension BrokerState {
    /// Tasks of one stage that wait or are about to: READY ones, and leased producers of theirs, by their job's priority.
    struct Backlog: Sendable {
        private var counts: [String: [Int32: Int]] = [:]

        mutating func add(_ stage: String, priority: Int32) { counts[stage, default: [:]][priority, default: 0] += 1 }

        /// What stands before a task of this priority: more urgent work is not held back by the less urgent.
        func count(_ stage: String, priority: Int32) -> Int {
            counts[stage]?.reduce(0) { $0 + ($1.key >= priority ? $1.value : 0) } ?? 0
        }
    }

    /// The stage that reads a task's outputs, if another stage does.
    func consumer(of task: TaskSpecification, in job: JobRecord) -> String? {
        job.tasks.first { other in
            other.specification.stage != task.stage
                && other.specification.inputs.contains {
                    if case .task(let name, _) = $0.source { name == task.name } else { false }
                }
        }?.specification.stage
    }

    func backlog() -> Backlog {
        var backlog = Backlog()
        for id in records.unfinished {
            guard let job = records.jobs[id] else { continue }
            for task in job.tasks {
                if task.state == .ready {
                    backlog.add(task.specification.stage, priority: job.priority)
                } else if task.state == .leased, let stage = consumer(of: task.specification, in: job) {
                    backlog.add(stage, priority: job.priority)
                }
            }
        }
        return backlog
    }

    /// Tasks that may wait at a stage: some for each of its slots.
    func backlogLimit(_ stage: String) -> Int {
        let slots = workers.values.reduce(0) { sum, worker in
            worker.hello.capabilities.contains { $0.stage == stage } ? sum + Int(worker.hello.slots) : sum
        }
        return max(1, slots) * configuration.backlogPerSlot
    }

    /// The stage whose backlog keeps a READY task from being begun; nil lets it go. What has been begun is finished.
    func stageInTheWay(of task: TaskRecord, in job: JobRecord, _ backlog: Backlog) -> String? {
        guard task.checkpoint == nil, let stage = consumer(of: task.specification, in: job),
            backlog.count(stage, priority: job.priority) >= backlogLimit(stage)
        else { return nil }
        return stage
    }
}
