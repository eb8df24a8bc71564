import Wire
import Work

// The list of the dead, and those that are tried again.
extension History {
    private func isDead(_ job: Job) -> Bool { job.end == .failed || job.end == .dead }

    /// A job begins with what a dead one had done: all that is stored of it, and nothing else.
    mutating func takeOver(_ carried: [CarriedTask], of dead: String, into job: inout Job) {
        guard let old = jobs[dead], isDead(old) else {
            return violate(.retries, "a retry goes on from \(dead), which is not dead")
        }
        scheduling.retries += 1
        expect(job.key.tenant == old.key.tenant && job.body == old.body, .retries, "\(dead) is tried again as another")
        for index in job.tasks.indices {
            let before = old.tasks[index]
            let name = before.specification.name
            let what = carried.first { $0.name == name }
            let isKept = before.isDone && before.specification.durableOutputs
            expect(
                isKept == !(what?.outputs.isEmpty ?? true), .retries,
                "\(dead)/\(name) was \(isKept ? "" : "not ")done, "
                    + "its retry takes over \(what?.outputs.count ?? 0) outputs")
            for output in what?.outputs ?? [] {
                let expected = Content(body: old.body, task: index, step: 255)
                let isRight = Content(output.ref.digest) == expected
                expect(isRight, .rightBytes, "\(dead)/\(name) is carried on with other bytes")
            }
            job.tasks[index].isDone = isKept
            guard !before.isDone else { continue }
            let step = what?.checkpointStep ?? 0
            expect(
                step == before.step, .retries,
                "\(dead)/\(name) has a checkpoint of step \(before.step), its retry begins at \(step)")
            job.tasks[index].step = step
        }
    }

    mutating func check(_ page: DeadPage) {
        for dead in page.jobs {
            let job = jobs[dead.job]
            expect(
                job?.end == dead.state && job.map(isDead) == true && job?.code == dead.errorCode, .evidence,
                "\(dead.job) is on the list as \(dead.state) (\(dead.errorCode)), disk says otherwise")
            guard let job, let index = job.index(of: dead.task) else { continue }
            let task = job.tasks[index]
            expect(
                dead.crashes == task.crashes && dead.checkpointStep == task.step, .evidence,
                "\(dead.job)/\(dead.task) is said to have \(dead.crashes) crashes and step \(dead.checkpointStep)")
            let crashes = dead.incidents.count { $0.task == dead.task && $0.kind == "expired" }
            expect(
                dead.incidents.isEmpty || crashes == Int(task.crashes), .evidence,
                "\(dead.job)/\(dead.task) has evidence of \(crashes) of \(task.crashes) crashes")
            expect(
                dead.incidents.allSatisfy { granted.contains($0.fence) }, .evidence,
                "\(dead.job) has evidence of leases that never were")
        }
        // One alone may be what somebody asked about.
        guard !page.hasMore, page.jobs.count > 1 else { return }
        let listed = Set(page.jobs.map(\.job))
        for (id, job) in jobs where isDead(job) && !job.isForgotten && !endedNow.contains(id) {
            expect(listed.contains(id), .evidence, "\(id) is \(job.end.map { "\($0)" } ?? "") and not on the list")
        }
    }
}
