import CommandLineService
import Failure
import Testing

@Suite("A batch of videos")
struct BatchPlanTests {
    @Test("videos whose prompt is written later are named by something that is known")
    func title() throws {
        let plan = try BatchPlan(prompts: [""], seeds: [7, 8], container: "mkv", title: "My holiday, 2024")
        #expect(plan.items.map(\.fileName) == ["0001-my-holiday-2024-s7.mkv", "0001-my-holiday-2024-s8.mkv"])
        #expect(plan.items.allSatisfy { $0.prompt.isEmpty })
    }

    @Test("every prompt with every seed has a name that tells them apart")
    func names() throws {
        let plan = try BatchPlan(prompts: ["A boat, sailing left!", "Hills"], seeds: [1, 42], container: "webm")
        #expect(
            plan.items.map(\.fileName) == [
                "0001-a-boat-sailing-left-s1.webm", "0001-a-boat-sailing-left-s42.webm", "0002-hills-s1.webm",
                "0002-hills-s42.webm",
            ])
        #expect(plan.items[2] == BatchPlan.Item(prompt: "Hills", seed: 1, fileName: "0002-hills-s1.webm"))
    }

    @Test("without seeds each prompt has its number, and odd prompts have a name too")
    func odd() throws {
        let long = String(repeating: "word ", count: 30)
        let plan = try BatchPlan(
            prompts: ["春の海", long, String(repeating: "x", count: 90)], seeds: nil, container: "mp4")
        #expect(plan.items.map(\.seed) == [1, 2, 3])
        #expect(plan.items[0].fileName == "0001-video-s1.mp4")
        #expect(plan.items.allSatisfy { $0.fileName.utf8.count < 60 })
        #expect(Set(plan.items.map(\.fileName)).count == 3)
    }

    @Test("a file has one prompt a line; empty lines and comments do not count")
    func lines() {
        #expect(BatchPlan.prompts(ofText: "a boat\r\n\n  # no\n\thills  \n") == ["a boat", "hills"])
    }

    @Test("seeds are numbers and ranges", arguments: [("1..4", [1, 2, 3, 4]), ("7", [7]), ("1..2,9", [1, 2, 9])])
    func seeds(text: String, expected: [UInt64]) throws { #expect(try BatchPlan.seeds(text) == expected) }

    @Test("wrong seeds and empty batches are refused", arguments: ["", "a", "4..1", "1..", "1...3", "1,1", "0..99999"])
    func wrong(text: String) {
        let failure = #expect(throws: Failure.self) { try BatchPlan.seeds(text) }
        #expect(failure?.code == "seeds_invalid")
        let empty = #expect(throws: Failure.self) { try BatchPlan(prompts: [], seeds: nil, container: "mp4") }
        #expect(empty?.code == "batch_invalid")
    }
}
