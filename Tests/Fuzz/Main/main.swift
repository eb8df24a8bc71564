import Dispatch
import FuzzTargets
import Glibc

// ZOETROPE_FUZZ_TARGET=envelope zoetrope-fuzz [libFuzzer's arguments]: one target under libFuzzer, whose driver is called
// from here because Swift brings a main function of its own. The target is named by the environment, which the processes
// that libFuzzer starts for -merge and -jobs inherit. Built by Tests/fuzz.sh only, with sanitizers and coverage.

@_silgen_name("LLVMFuzzerRunDriver")
func runDriver(
    _ count: UnsafeMutablePointer<Int32>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

/// Waits on the main thread for what runs on Swift's own threads.
func waiting(for body: @escaping @Sendable () async throws -> Void) {
    let done = DispatchSemaphore(value: 0)
    Task.detached {
        do {
            try await body()
        } catch {
            let text = "FINDING: \(error)\n"
            _ = text.withCString { write(STDERR_FILENO, $0, strlen($0)) }
            abort()
        }
        done.signal()
    }
    done.wait()
}

nonisolated(unsafe) var subject: (any FuzzSubject)?

func runOne(_ data: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    let input = Array(UnsafeBufferPointer(start: data, count: count))
    waiting { try await subject?.run(input) }
    return 0
}

guard let name = getenv("ZOETROPE_FUZZ_TARGET"), let target = FuzzTarget(rawValue: String(cString: name)) else {
    print("ZOETROPE_FUZZ_TARGET must be one of \(FuzzTarget.allCases.map(\.rawValue).joined(separator: ", "))")
    exit(2)
}
waiting { subject = try await target.prepare() }
var count = CommandLine.argc
var arguments = CommandLine.unsafeArgv
let status = runDriver(&count, &arguments) { runOne($0, $1) }
waiting { await subject?.finish() }
exit(status)
