import Failure
import Tensor
import Testing
import Wire

@Suite struct LimitsTests {
    private func code(of message: Message) -> String? {
        do throws(Failure) {
            _ = try EnvelopeCodec.encode(Samples.envelope(message))
            return nil
        } catch {
            return error.code
        }
    }

    private func ref(_ shape: [Int], _ dtype: DType = .float32, locations: [Location] = []) -> Message {
        .checkpoint(
            CheckpointReport(
                lease: Samples.lease, step: 1,
                ref: TensorRef(digest: Samples.digest(1), dtype: dtype, shape: shape, locations: locations)))
    }

    @Test("lists and texts over their bounds are refused before they leave")
    func listsAndTexts() {
        let running = Samples.beat.running[0]
        #expect(
            code(of: .beat(Beat(freeSlots: 0, running: Array(repeating: running, count: 64), storeBytes: 0))) == nil)
        #expect(
            code(of: .beat(Beat(freeSlots: 0, running: Array(repeating: running, count: 65), storeBytes: 0)))
                == "too_large")
        #expect(code(of: .cancel(job: String(repeating: "j", count: 128))) == nil)
        #expect(code(of: .cancel(job: String(repeating: "j", count: 129))) == "too_large")
        #expect(code(of: .cancel(job: "a\0b")) == "malformed")
        var submit = Samples.submit
        submit.specification = String(repeating: "x", count: 16 * 1024 + 1)
        #expect(code(of: .submit(submit)) == "too_large")
    }

    @Test("a shape that overflows, is negative, too deep or too big is no tensor")
    func shapes() {
        #expect(code(of: ref([])) == nil)
        #expect(code(of: ref([0, 5])) == nil)
        #expect(code(of: ref([1 << 31])) == nil)
        #expect(code(of: ref([1 << 31, 2])) == "malformed")
        #expect(code(of: ref([1 << 62, 1 << 62])) == "malformed")
        #expect(code(of: ref([0, 1 << 62, 1 << 62])) == "malformed")
        #expect(code(of: ref([-1, -1])) == "malformed")
        #expect(code(of: ref([Int](repeating: 1, count: 8))) == nil)
        #expect(code(of: ref([Int](repeating: 1, count: 9))) == "too_large")
    }

    @Test("a location is a literal address or a plain file name, nothing that could be looked up or climb a path")
    func locations() {
        for good in [Location.tcp(address: "::1", port: 1), .ipc(host: "h", socket: "data.sock")] {
            #expect(code(of: ref([1], locations: [good])) == nil, "\(good)")
        }
        for bad in [
            Location.tcp(address: "example.org", port: 80), .tcp(address: "10.0.0.1", port: 0),
            .tcp(address: "127.0.0.1;tcp://x", port: 1), .ipc(host: "h", socket: "../../etc/passwd"),
            .ipc(host: "h", socket: ".."), .ipc(host: "h", socket: ""),
        ] {
            #expect(code(of: ref([1], locations: [bad])) == "malformed", "\(bad)")
        }
        #expect(code(of: ref([1], locations: Array(repeating: .tcp(address: "::1", port: 1), count: 9))) == "too_large")
    }

    @Test("a report meant for people is cut to its bound instead of getting lost")
    func prose() throws {
        let fail = Fail(
            lease: Samples.lease, code: "crashed", message: String(repeating: "é", count: 5000) + "\0",
            retry: .sameWorker)
        let decoded = try EnvelopeCodec.decode(EnvelopeCodec.encode(Samples.envelope(.fail(fail))))
        guard case .fail(let arrived) = decoded.message else {
            Issue.record("\(decoded.message)")
            return
        }
        #expect(arrived.message == String(repeating: "é", count: 1024))
        #expect(arrived.code == "crashed")
    }

    @Test("the largest job status fits one control frame, and a page keeps as many jobs as fit")
    func statusFits() throws {
        let name = String(repeating: "n", count: 128)
        let ref = TensorRef(
            digest: Samples.digest(1), dtype: .float32, shape: [Int](repeating: 8, count: 8),
            locations: Array(repeating: .ipc(host: name, socket: name), count: 8))
        let task = TaskStatus(
            name: name, stage: name, state: .leased, worker: name, attempt: .max, step: .max, totalSteps: .max,
            elapsedMilliseconds: .max, remainingMilliseconds: .max,
            notes: Array(repeating: String(repeating: "w", count: 2048), count: 16))
        let status = JobStatus(
            job: name, state: .running, revision: .max, createdUnixMilliseconds: .max, finishedUnixMilliseconds: .max,
            priority: .min, queuePosition: .max, remainingMilliseconds: .max,
            specification: String(repeating: "s", count: 16 * 1024), tasks: Array(repeating: task, count: 64),
            outputs: Array(repeating: NamedRef(name: name, ref: ref), count: 16), errorCode: name,
            errorMessage: String(repeating: "e", count: 2048))
        #expect(code(of: .event(status)) == "too_large")
        let fitted = status.fittingOneFrame()
        #expect(code(of: .event(fitted)) == nil)
        #expect(fitted.specification == status.specification && fitted.tasks.count == 64 && fitted.outputs.count == 16)
        let page = StatusPage(jobs: Array(repeating: status, count: 3), hasMore: false).fittingOneFrame()
        #expect(page.jobs.count == 1 && page.hasMore)
        #expect(code(of: .status(page)) == nil)
        let small = StatusPage(jobs: [Samples.status, Samples.status], hasMore: false)
        #expect(small.fittingOneFrame() == small)
    }
}
