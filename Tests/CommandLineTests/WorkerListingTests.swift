import CommandLineService
import Foundation
import Testing

@Suite struct WorkerListingTests {
    private func lines(_ json: String) throws -> [String] {
        try JSONDecoder().decode(WorkerList.self, from: Data(json.utf8)).lines
    }

    @Test("workers are listed with their load, and denoisers with what they have ready")
    func ready() throws {
        let found = try lines(
            """
            {"draining": false, "notes": ["look here"], "data": [
              {"name": "painter", "stages": ["denoiser"], "slots": 2, "busy": 1, "draining": false, "warm": [
                {"dtype": "bfloat16", "loras": []},
                {"dtype": "bfloat16", "adapters": "0123456789ab",
                 "loras": [{"name": "dusk", "weight": 0.5}, {"name": "people/anna", "weight": -1}]},
                {"dtype": "int8", "adapters": "ba9876543210", "loras": null}]},
              {"name": "mux\\u001b[2J", "stages": ["video-muxer"], "slots": 1, "busy": 0, "draining": true, "warm": []}]}
            """)
        #expect(
            found == [
                "painter  denoiser  1/2  busy",
                "  ready: bfloat16, bfloat16 with dusk:0.5 people/anna:-1.0, int8 with adapters ba9876543210",
                "mux [2J  video-muxer  0/1  draining", "note: look here",
            ])
    }

    @Test("a gateway of an earlier release says nothing of what is ready; brokers are listed where there are several")
    func brokers() throws {
        let worker = #"{"name": "a", "stages": ["denoiser"], "slots": 1, "busy": 0, "draining": false}"#
        #expect(
            try lines(#"{"draining": true, "data": [\#(worker)]}"#) == [
                "a  denoiser  0/1  idle", "the broker takes no new jobs",
            ])
        func cell(_ name: String, _ reachable: Bool) -> String {
            #"{"name": "\#(name)", "reachable": \#(reachable), "draining": false, "queued_jobs": 2, "running_jobs": 1}"#
        }
        #expect(
            try lines(#"{"draining": false, "data": [], "cells": [\#(cell("n", true)), \#(cell("s", false))]}"#) == [
                "cell n  takes jobs, 1 running, 2 waiting", "cell s  unreachable",
            ])
    }
}
