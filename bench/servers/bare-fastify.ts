import { answerCalls } from '../answer-calls.ts'
import { listenBare } from './bare-route.ts'

/** The same body and answer as `POST /publish`, and nothing done. */
answerCalls({ listen: () => listenBare() })
