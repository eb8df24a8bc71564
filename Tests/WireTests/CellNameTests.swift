import Failure
import Testing
import Wire

@Suite("Names of cells")
struct CellNameTests {
    @Test("the id of a job leads to its cell, and two ids are never one")
    func ids() throws {
        let north = try CellName("north")
        let job = north.newJob()
        #expect(job.count == 38 && job.hasPrefix("video_"))
        #expect(CellName.tag(ofJob: job) == north.tag)
        #expect(try CellName("south").tag != north.tag)
        #expect(north.newJob() != job)
    }

    @Test("the mark never changes: ids are kept for ever")
    func fixed() {
        #expect(CellName.tag(of: "north") == String(Digest.of(Array("zoetrope cell north".utf8)).description.prefix(8)))
        #expect(CellName.tag(of: "north") == "4fc67724")
    }

    @Test(
        "ids of another form have no mark",
        arguments: ["", "video_12", "job-1", "video_" + String(repeating: "g", count: 32)])
    func strange(job: String) {
        #expect(CellName.tag(ofJob: job) == nil)
    }

    @Test(
        "a name is short and plain",
        arguments: ["", "-a", "a-", "A", "ä", "a b", "a/b", String(repeating: "a", count: 33)])
    func refused(name: String) {
        let failure = #expect(throws: Failure.self) { try CellName(name) }
        #expect(failure?.code == "cell_name_invalid")
    }
}
