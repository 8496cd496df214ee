import { readFileSync } from 'node:fs'

/** Prints how the tests went, alone on a line; fails unless there were some and every one of them ran and passed. */
function readReport(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    console.error(`the tests left no report: ${error.message}`)
    return { numTotalTests: 0, numPassedTests: 0, numFailedTests: 0, numFailedTestSuites: 0 }
  }
}

const {
  numTotalTests: total,
  numPassedTests: passed,
  numFailedTests: failed,
  numFailedTestSuites: failedSuites,
} = readReport(process.argv[2])
const notRun = total - passed - failed
if (notRun > 0) console.error(`${notRun} tests were skipped: here every test has to run`)
if (total === 0) console.error('no test ran')
console.log(`${passed} passed, ${failed} failed`)
if (passed === 0 || failed > 0 || failedSuites > 0 || notRun > 0) process.exitCode = 1
