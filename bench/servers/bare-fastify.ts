import { answerCalls } from '../answer-calls.ts'
import { listenBare } from './bare-route.ts'

/** The bare route: the body and the response of `POST /publish`, and nothing in between. */
answerCalls({ listen: () => listenBare() })
